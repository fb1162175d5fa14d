-- events.lua — what happens to handles and batches, told to callbacks and waiters.
--
-- A hub's `state` has a watch for each handle or batch that somebody wants to hear of. The core
-- reports to the hub's inbox; `pump` takes an event from there and tells it. Nothing is told
-- anywhere else, so callbacks run inside poll, wait, results, run, sleep and close only, in the
-- thread that called one of these. (One exception: a callback set after the end is called at once.)
--
-- A callback may wait, and so make other callbacks run inside itself: DEPTH levels of them. Deeper,
-- events are put aside and told by the levels above.

local native, lib = ...
local events = {}
lib.events = events

local DEPTH = 16
local SLICE = 0.5 -- seconds in C at a time: then Lua runs, so that a debug hook (Ctrl-C) can act
local MOST = 1000 -- events a poll, so that callbacks which send cannot keep it for ever

local traceback = debug and debug.traceback or tostring

events.SLICE = SLICE

function events.state()
  return {
    hub = nil,
    watches = {}, -- by tag and by subject, until the subject has settled
    watching = 0, most = 0, -- how many there are, and were since the table was new
    tag = 0,
    depth = 0, -- callbacks running now, one inside another
    aside = {}, first = 1, last = 0, -- events put aside
    handles = setmetatable({}, { __mode = "v" }), -- see batch.c
    run = nil, -- see run.lua
    on_news = nil, -- callbacks by kind, see events.on_news
    on_callback_error = nil,
  }
end

-- ------------------------------------------------------------------- calling

local function trace(message)
  return traceback(type(message) == "string" and message or tostring(message), 2)
end

-- What a callback raised goes to on_callback_error; what that raises, to the standard error.
function events.report(state, text)
  text = type(text) == "string" and text or ("error of type " .. type(text))
  if state.on_callback_error then
    state.depth = state.depth + 1
    local ok, problem = native.call(trace, state.on_callback_error, text)
    state.depth = state.depth - 1
    if ok then return end
    text = text .. "\nand on_callback_error failed: " .. tostring(problem)
  end
  native.complain("error in a callback: " .. text)
end

local function call(state, callback, ...)
  state.depth = state.depth + 1
  local ok, problem = native.call(trace, callback, ...)
  state.depth = state.depth - 1
  if not ok then events.report(state, problem) end
end

-- Calls each of a list that may be nil; returns how many.
function events.call_all(state, callbacks, ...)
  local count = callbacks and #callbacks or 0
  for i = 1, count do call(state, callbacks[i], ...) end
  return count
end

-- ------------------------------------------------------------------ watching

-- Has the core report to the watch under a tag of its own, which is returned.
local function report(state, watch, progress)
  local tag = state.tag + 1
  state.tag = tag
  native.watch(state.hub, watch.subject, tag, progress)
  state.watches[tag] = watch
  return tag
end

-- The watch of a handle or batch. `kind` says how to ask and what to tell: see handle.lua. Progress
-- is reported when somebody asked for it: to be woken for each step is dear. Who asks late gets it
-- under a second tag, which serves for nothing else.
function events.watch(state, subject, kind, progress)
  local watch = state.watches[subject]
  if not watch then
    watch = { subject = subject, kind = kind, waiters = {}, finished = false }
    watch.tag = report(state, watch, progress)
    if progress then watch.progress_tag = watch.tag end
    state.watches[subject] = watch
    state.watching = state.watching + 1
    state.most = math.max(state.most, state.watching)
  elseif progress and not watch.progress_tag then
    watch.progress_tag = report(state, watch, true)
  end
  return watch
end

local ACCEPTANCE = { finish = function() return 0 end }

-- A watch that ends when the handle is accepted or refused.
function events.watch_accepted(state, handle)
  local watch = { waiters = {}, kind = ACCEPTANCE, finished = false, tag = state.tag + 1 }
  watch.subject = watch -- it is under its tag only
  state.tag = watch.tag
  native.watch_accepted(state.hub, handle, watch.tag)
  state.watches[watch.tag] = watch
  state.watching = state.watching + 1
  return watch
end

-- Wakes those in a list of waiters who want to hear of progress, or all, and takes them out of it.
-- (Lists, because some LuaJITs, that of Debian 12 for one, may end a hot loop over pairs early:
-- https://github.com/LuaJIT/LuaJIT/issues/827.)
function events.wake(waiters, all)
  local kept = 0
  for i = 1, #waiters do
    local waiter = waiters[i]
    waiters[i] = nil
    if all or waiter.every then
      waiter:wake()
    else
      kept = kept + 1
      waiters[kept] = waiter
    end
  end
end

-- Whether a wait here would have nothing to tell but that it is over.
function events.idle(state)
  return state.watching == 0 and state.first > state.last and not state.on_news
end

-- Ends a watch. A table never shrinks by itself, so one that was large is left behind empty.
local function unwatch(state, watch)
  watch.finished = true
  state.watches[watch.tag], state.watches[watch.subject] = nil, nil
  if watch.progress_tag then state.watches[watch.progress_tag] = nil end
  state.watching = state.watching - 1
  if state.watching == 0 and state.most > 1000 then
    state.watches, state.most = {}, 0
  end
end

-- Whether whoever waits for the end of a watch may go on. Its callbacks have run by then, except
-- for a wait so deep inside callbacks that they cannot.
function events.finished(state, watch)
  return watch.finished or state.depth >= DEPTH and watch.kind.settled and watch.kind.settled(watch.subject)
end

-- ------------------------------------------------------------------- telling

-- Figures are told when they have changed, and to everybody at the end at the latest.
local function tell_progress(state, watch, complete)
  local a, b = watch.kind.progress(watch.subject)
  if a == watch.done and b == watch.total then return 0 end
  watch.done, watch.total = a, b
  local count = #watch.on_progress
  for i = 1, count do
    -- A callback that waited may have made newer figures, or the end, be told already.
    if watch.finished ~= complete or watch.done and watch.done ~= a then return i - 1 end
    call(state, watch.on_progress[i], a, b)
  end
  return count
end

local function tell(state, tag, progress, retry, complete)
  local watch = state.watches[tag]
  if not watch then return 0 end
  if tag ~= watch.tag then progress, retry, complete = true, false, false end
  if complete then unwatch(state, watch) end
  events.wake(watch.waiters, complete)
  local told = 0
  if watch.on_progress and (progress or complete) then
    told = tell_progress(state, watch, complete)
  end
  if retry and watch.on_retry and watch.finished == complete then
    told = told + events.call_all(state, watch.on_retry, native.retries(watch.subject))
  end
  if complete then told = told + watch.kind.finish(state, watch) end
  return told
end

-- What callbacks of each kind of news are called with.
local NEWS = {
  breaker = function(item) return item end,
  log = function(item) return item.line, item.level end,
}

local function tell_news(state)
  local told = 0
  local item = native.news(state.hub)
  while item do
    told = told + events.call_all(state, state.on_news[item.kind], NEWS[item.kind](item))
    item = native.news(state.hub)
  end
  return told
end

local function tell_aside(state)
  local told = 0
  while state.first <= state.last and state.depth < DEPTH do
    local event = state.aside[state.first]
    state.aside[state.first] = nil
    state.first = state.first + 1
    told = told + (event == "news" and tell_news(state) or tell(state, event[1], event[2], event[3], event[4]))
  end
  return told
end

-- Takes one event and tells it, waiting at most `seconds` (nil: a slice). Returns how many callbacks
-- ran, and whether there was an event.
function events.pump(state, seconds)
  if not seconds or seconds > SLICE then seconds = SLICE end
  local tag, progress, retry, complete, news = native.next_event(state.hub, seconds)
  if not tag then return 0, false end
  if state.depth >= DEPTH then
    state.last = state.last + 1
    state.aside[state.last] = news and "news" or { tag, progress, retry, complete }
    return 0, true
  end
  if news then return tell_news(state) + tell_aside(state), true end
  return tell(state, tag, progress, retry, complete) + tell_aside(state), true
end

-- Tells what has come, and waits at most `seconds` until a callback has run. Returns how many ran.
function events.poll(state, seconds)
  local due = native.now() + seconds
  local told, most = 0, MOST
  repeat
    local left = told == 0 and due - native.now() or 0
    local count, came = events.pump(state, left > 0 and left or 0)
    told = told + count
    if came then most = most - 1 end
  until most == 0 or not came and (told > 0 or native.now() >= due)
  return told
end

-- Tells everything that has come.
function events.drain(state)
  local told = 0
  repeat
    local count, came = events.pump(state, 0)
    told = told + count
  until not came
  return told
end

-- ------------------------------------------------------------------- adding

local NAMES = { "on_progress", "on_retry", "on_complete", "on_error" }

-- Adds callbacks by name, to be told by events only: also after the end.
function events.attach(state, subject, kind, callbacks)
  if not (callbacks.on_progress or callbacks.on_retry or callbacks.on_complete or callbacks.on_error) then return end
  local watch = events.watch(state, subject, kind, callbacks.on_progress)
  for i = 1, #NAMES do
    local name = NAMES[i]
    if callbacks[name] then
      local list = watch[name] or {}
      list[#list + 1] = callbacks[name]
      watch[name] = list
    end
  end
  if callbacks.on_progress then watch.done = nil end
end

-- Adds one callback. After the end it is called at once, unless others of its kind are yet to be
-- called (then it comes after them), or so deep inside callbacks that it has to be put aside.
function events.add(state, subject, kind, name, callback)
  local watch = state.watches[subject]
  if kind.settled(subject) and not (watch and watch[name]) and state.depth < DEPTH then
    kind.late[name](state, subject, { callback })
    tell_aside(state)
  else
    events.attach(state, subject, kind, { [name] = callback })
  end
end

-- Adds a callback for one kind of the hub's own news.
function events.on_news(state, kind, callback)
  if not state.on_news then
    state.on_news = {}
    native.watch_news(state.hub, 0) -- watches of messages count from 1
  end
  local list = state.on_news[kind] or {}
  list[#list + 1] = callback
  state.on_news[kind] = list
end

-- ------------------------------------------------------------------ checking

-- Raises unless `callback` is a function. `level` as for `error`, seen from the caller.
function events.check_callback(callback, what, level)
  if type(callback) == "string" then
    error(what .. ": a callback of the rules is named in the message: { " .. what .. " = \"name\" }", level + 1)
  elseif type(callback) ~= "function" then
    error(what .. ": a function expected, got " .. type(callback), level + 1)
  end
end

-- The same for the options of a send: callbacks whose names `known` has, `wait` and `acceptance`.
function events.check_options(options, known, level)
  if options == nil then return end
  if type(options) ~= "table" then
    error("options: a table expected, got " .. type(options), level + 1)
  end
  local name, value = next(options)
  while name ~= nil do
    if name == "wait" then
      events.check_seconds(value, level + 1, "wait")
    elseif name == "acceptance" then
      if value ~= "later" then
        error("acceptance: 'later' or nothing expected, got " .. tostring(value), level + 1)
      end
    elseif known[name] then
      events.check_callback(value, name, level + 1)
    else
      error("options: unknown option '" .. tostring(name) .. "'", level + 1)
    end
    name, value = next(options, name)
  end
end

function events.check_seconds(seconds, level, what)
  if seconds == nil then return end
  if type(seconds) ~= "number" or seconds ~= seconds or seconds < 0 then
    error((what or "seconds") .. ": a number that is not negative expected, got " .. tostring(seconds), level + 1)
  end
end

function events.misuse(value, what)
  error(what .. " expected, got " .. type(value) .. " (call methods with ':')", 4)
end
