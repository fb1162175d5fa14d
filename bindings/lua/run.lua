-- run.lua — waiting: in a task of hub:run it yields to the other tasks, elsewhere it blocks.
--
-- hub:run makes tasks, coroutines of its own, and resumes those that are ready; when none is, it
-- pumps events until something wakes one or a time is over. A task that waits stands in the list
-- `waiters` of what it waits for and, with a limit, in the heap of times. A wake-up is a hint: who
-- is woken looks again, so a stale one does no harm.
--
-- What is not a task blocks: the program itself, a callback, and a coroutine that a task made. Such
-- a wait tells events all the same, but no other task goes on meanwhile.
-- Lua 5.1 (not LuaJIT) cannot yield across pcall, a metamethod or an iterator: there, do not wait
-- inside pcall; batch:results blocks by itself.

local native, lib = ...
local events = lib.events
local waiting = {}
lib.waiting = waiting

local create, resume, yield = coroutine.create, coroutine.resume, coroutine.yield
local running, coroutine_status = coroutine.running, coroutine.status
local close = coroutine.close -- luacheck: ignore 143
local unpack = table.unpack or unpack -- luacheck: ignore 113 143

local function pack(...)
  return { n = select("#", ...), ... }
end

-- Whether the iterator of a `for` can yield.
local iterators_yield = _VERSION ~= "Lua 5.1" or type(jit) == "table" -- luacheck: ignore 113

-- --------------------------------------------------------------------- times

-- A binary heap of tasks by `due`; a task knows its place, so that it can leave early.

local function put(heap, place, task)
  heap[place] = task
  task.place = place
end

local function rise(heap, place, task)
  while place > 1 do
    local above = (place - place % 2) / 2
    if heap[above].due <= task.due then break end
    put(heap, place, heap[above])
    place = above
  end
  put(heap, place, task)
end

local function sink(heap, place, task)
  local size = #heap
  while 2 * place <= size do
    local below = 2 * place
    if below < size and heap[below + 1].due < heap[below].due then below = below + 1 end
    if task.due <= heap[below].due then break end
    put(heap, place, heap[below])
    place = below
  end
  put(heap, place, task)
end

local function drop_time(heap, task)
  local place = task.place
  if not place then return end
  task.place = nil
  local last = table.remove(heap)
  if last == task then return end
  if place > 1 and last.due < heap[(place - place % 2) / 2].due then
    rise(heap, place, last)
  else
    sink(heap, place, last)
  end
end

local function set_time(heap, task, due)
  drop_time(heap, task)
  task.due = due
  rise(heap, #heap + 1, task)
end

-- --------------------------------------------------------------------- tasks

local Task = {}
Task.__index = Task

function Task:wake()
  if not self.parked then return end
  local run = self.run
  self.parked = false
  drop_time(run.times, self)
  run.ready[#run.ready + 1] = self
end

-- The task that runs now; nil in what only blocks.
local function current(state)
  local run = state.run
  return run and state.depth == run.depth and run.tasks[running() or false] or nil
end

-- Takes a task out of a list of waiters, where it is no more when an event woke it.
local function leave(waiters, task)
  for i = 1, #waiters do
    if waiters[i] == task then
      table.remove(waiters, i)
      return
    end
  end
end

-- Where the yield is not possible (Lua 5.1 inside pcall) it raises, and leaves a wake-up behind.
local function park(task, due)
  task.parked = true
  if due then set_time(task.run.times, task, due) end
  yield()
end

local function wait_as(state, task, waiters, every, seconds, probe, ...)
  local due = seconds and native.now() + seconds
  while true do
    local a, b = probe(...)
    if a then return a, b end
    local left = due and due - native.now()
    if task then
      if left and left <= 0 then return nil end
      task.every = every
      waiters[#waiters + 1] = task
      park(task, due)
      leave(waiters, task)
    elseif left and left <= 0 then
      events.poll(state, 0)
      return probe(...)
    else
      events.pump(state, left)
    end
  end
end

-- Whether a wait here lets other tasks run.
function waiting.yields(state)
  return current(state) ~= nil
end

-- Waits until probe(…) answers neither nil nor false, at most `seconds` (nil: without limit), and
-- returns the answer. `waiters` is where a task shall stand; with `every`, it is woken by progress.
function waiting.await(state, waiters, every, seconds, probe, ...)
  return wait_as(state, current(state), waiters, every, seconds, probe, ...)
end

-- The same without a limit, for the iterator of a `for`.
function waiting.await_in_iterator(state, waiters, every, probe, ...)
  return wait_as(state, iterators_yield and current(state) or nil, waiters, every, nil, probe, ...)
end

local function never() end

function waiting.sleep(state, seconds)
  local task = current(state)
  if task and seconds == 0 then -- lets the others run
    yield()
  else
    waiting.await(state, {}, false, seconds, never)
  end
end

-- --------------------------------------------------------- the tasks' results

local function ended(task)
  return task.results or task.failure
end

-- task:wait(seconds) → what its function returned; nil, message, code when it failed or the time
-- is over.
function Task:wait(seconds)
  events.check_seconds(seconds, 2)
  local state = self.state
  if not ended(self) then
    local task = current(state)
    if not task or task.run ~= self.run then
      error("task:wait works in the tasks of the same hub:run only", 2)
    end
    local run = self.run
    if not seconds then run.idle = run.idle + 1 end
    waiting.await(state, self.waiters, false, seconds, ended, self)
    if not seconds then run.idle = run.idle - 1 end
  end
  if self.results then return unpack(self.results, 1, self.results.n) end
  if self.failure then return nil, tostring(self.failure.value), "script" end
  return nil, "the task has not ended", "timeout"
end

local function spawn(state, run, fn, ...)
  local task = setmetatable({
    state = state, run = run, coroutine = create(fn), arguments = pack(...), waiters = {},
  }, Task)
  run.tasks[task.coroutine] = task
  run.alive = run.alive + 1
  run.ready[#run.ready + 1] = task
  return task
end

function waiting.spawn(state, fn, ...)
  return spawn(state, state.run, fn, ...)
end

-- ----------------------------------------------------------------------- run

local function fail(state, run, task, value)
  if type(value) == "string" and debug then value = debug.traceback(task.coroutine, value) end
  task.failure = { value = value }
  if not run.failure then
    run.failure = task.failure
  else
    events.report(state, "in another task of hub:run: " .. tostring(value))
  end
end

local function after_step(state, run, task, ok, ...)
  if coroutine_status(task.coroutine) ~= "dead" then
    if not task.parked then run.ready[#run.ready + 1] = task end -- it yielded by itself
    return
  end
  run.tasks[task.coroutine] = nil
  run.alive = run.alive - 1
  if ok then
    task.results = pack(...)
  else
    fail(state, run, task, (...))
  end
  events.wake(task.waiters, true)
end

local function step(state, run, task)
  if not run.tasks[task.coroutine] then return end -- woken after its end, see park
  local arguments = task.arguments
  if arguments then
    task.arguments = nil
    after_step(state, run, task, resume(task.coroutine, unpack(arguments, 1, arguments.n)))
  else
    after_step(state, run, task, resume(task.coroutine))
  end
end

local function loop(state, run)
  while run.alive > 0 do
    local ready, now = run.ready, native.now()
    run.ready = {}
    for i = 1, #ready do step(state, run, ready[i]) end
    while run.times[1] and run.times[1].due <= now do run.times[1]:wake() end

    if run.ready[1] then
      events.poll(state, 0)
    elseif run.alive > 0 then
      if run.idle == run.alive then error("hub:run: every task waits for another one", 0) end
      local first = run.times[1]
      events.pump(state, first and math.max(0, first.due - native.now()))
    end
  end
end

-- What an error in the loop itself left behind (Ctrl-C, a deadlock): lets go of what it holds.
local function abandon(run)
  if not close then return end
  for thread in pairs(run.tasks) do
    if coroutine_status(thread) == "suspended" then pcall(close, thread) end
  end
end

function waiting.run(state, fn, ...)
  local run = {
    depth = state.depth,
    tasks = {}, -- by coroutine
    alive = 0,
    idle = 0, -- tasks that wait for another one without limit
    ready = {},
    times = {},
  }
  state.run = run
  local main = spawn(state, run, fn, ...)
  local ok, problem = pcall(loop, state, run)
  state.run = nil
  if not ok then
    abandon(run)
    error(problem, 0)
  end
  if run.failure then error(run.failure.value, 0) end
  return unpack(main.results, 1, main.results.n)
end
