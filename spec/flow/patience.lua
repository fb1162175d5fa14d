-- Platforms that ask to wait, in every way there is: Retry-After in seconds, as a date, garbage, negative, 2^63, in JSON, or
-- not at all. R5: what makes sense is honoured within a second and kept between 1 s and 1 h, a 429 pauses the whole account and
-- costs no attempt, and nothing is lost.
--
--   notifyhub run spec/flow/patience.lua [SECONDS]
--
-- With SECONDS over 30 some wait longer.

local notifyhub = require "notifyhub"

local hostile = require "spec.support.hostile"
local torture = require "spec.support.torture"

local LONG = (tonumber(arg[1]) or 0) > 30
local check, say = torture.check, torture.say
local MESSAGES = 8 -- a case

-- What is said with a refusal, and how long that is: { kind, value, least, most } in seconds; `most` is without the second
-- that is forgiven.
local SAID = {
  { "after", "2", 2, 2 },
  { "after", LONG and "20" or "3", LONG and 20 or 3, LONG and 20 or 3 },
  { "after", "0", 1, 1 },
  { "date", LONG and "15" or "3", LONG and 14 or 2, LONG and 15 or 3 }, -- dates have whole seconds
  { "date", "-100", 1, 1 },
  { "after", "soon", 0.25, 1 },
  { "after", "-5", 0.25, 1 },
  { "after", "Mon, 99 Foo 2026 99:99:99 GMT", 0.25, 1 },
  { "after", "", 0.25, 1 },
  { "none", "", 0.25, 1 },
  { "discord", "1.5", 1.5, 1.5 },
  { "telegram", "2", 2, 2 },
  { "telegram", "\"x\"", 0.25, 1 },
}
-- More than an hour is an hour: these are not waited for.
local FOREVER = { { "after", "9223372036854775808" }, { "after", "99999999999999999999999999" }, { "date", "100000000" },
                  { "discord", "1e300" } }

-- How long a retry waits only rules are told.
local root = torture.directory()
torture.write(root .. "/waits.lua", [[
on("retry", function(retry, message)
  store.set("wait " .. message.metadata.case, retry.wait)
end)
route {
  name = "wait", match = { what = "wait" },
  handle = function(message) return false, json.encode { wait = store.get("wait " .. message.metadata.case) or 0 } end,
}
]])

local sink = hostile.start()
local platforms, cases = {}, {}

local function add(status, said, forever)
  local case = { name = ("%d, %s %s"):format(status, said[1], said[2]), status = status, least = said[3], most = said[4],
                 account = ("c%d"):format(#cases + 1), forever = forever, arrivals = {} }
  -- An account each, since a pause is an account's; the lane's and breaker's key is the host, which they share.
  local value = said[2]:gsub("[^%w.%-]", function(byte) return ("%%%02X"):format(byte:byte()) end)
  case.path = ("/fail/%d/1/%s/%s/%s"):format(status, said[1], value, case.account)
  platforms[case.account] = { platform = "webhook", url = sink:url(case.path) }
  cases[#cases + 1], cases[case.path] = case, case
end

for _, status in ipairs { 429, 503 } do
  for _, said in ipairs(SAID) do add(status, said) end
  for _, said in ipairs(FOREVER) do add(status, said, true) end
end

-- One attempt for who is told 429: it costs none. A breaker would open at so many refusals.
local hub = assert(notifyhub.new {
  rules = root, platforms = platforms, lanes = { enabled = false }, breaker = { enabled = false },
  retry = { attempts = 2, initial = 0.5, max = 1, jitter = 0.5 },
})

local accepted, handles = {}, {}
for _, case in ipairs(cases) do
  for index = 1, case.forever and 1 or MESSAGES do
    local id = ("%s-%d"):format(case.account, index)
    local handle = assert(hub:send_async {
      title = hostile.mark(id), body = "b", targets = { case.account }, timeout = case.forever and 6 * torture.slow or nil,
      retry = case.status == 429 and { attempts = 1 } or nil, metadata = { case = case.account },
    })
    handles[#handles + 1] = { case, handle, id }
    accepted[id] = not case.forever or nil
  end
end
for _, each in ipairs(handles) do
  local case, handle, id = each[1], each[2], each[3]
  local receipt = handle:wait(60 * torture.slow)
  if check(receipt, "%s: no end", case.name) then
    local result = receipt.results[1]
    if case.forever then
      check(receipt.code == "timeout", "%s: %s: %s", case.name, receipt.status, tostring(receipt.error))
    else
      check(receipt.status == "delivered", "%s: %s: %s", id, tostring(receipt.code), tostring(receipt.error))
      check(result.attempts == (case.status == 429 and 1 or 2), "%s: %d attempts", case.name, result.attempts)
      check(case.status ~= 429 or (result.waited or 0) > 0 or id:find "-1$", "%s: did not wait", id)
    end
  end
end
for _, case in ipairs(cases) do
  if case.forever and case.status == 503 then
    local receipt = assert(hub:send({ title = "t", metadata = { what = "wait", case = case.account } }, 30))
    local wait = tonumber(receipt.error:match '"wait":([%d.]+)')
    check(wait and wait >= 3600 and wait <= 3601, "%s: waits %s s", case.name, tostring(wait))
  end
end
hub:close(5)
torture.shell("rm -rf %s", root)

------------------------------------------------------------------- the ledger

local entries = sink:stop()
local by_id = {}
for _, entry in ipairs(entries) do
  local case = cases[entry.path]
  if case and entry.id ~= "" then
    by_id[entry.id] = by_id[entry.id] or {}
    table.insert(by_id[entry.id], entry)
    case.first = case.first or entry.time
    table.insert(case.arrivals, entry)
  end
end

local worst, early, during = 0, 0, 0
local forgiven = torture.strict and 0.3 or 0.8 * torture.slow -- seconds in which what was under way may still arrive
for _, case in ipairs(cases) do
  if case.forever then
    check(#case.arrivals == 1, "%s: %d requests", case.name, #case.arrivals)
  else
    local late, soon = 0, math.huge
    for _, list in pairs(by_id) do
      if list[1].path == case.path then
        for index = 2, #list do
          local gap = list[index].time - list[index - 1].time
          late, soon = math.max(late, gap - case.most), math.min(soon, gap - case.least)
        end
      end
    end
    if case.status == 429 then
      for _, entry in ipairs(case.arrivals) do
        local after = entry.time - case.first
        if after > forgiven and after < case.least - 0.05 then
          during = during + 1
        end
      end
    end
    say("%-45s %+.2f s later than asked, at most", case.name, late)
    worst = math.max(worst, late)
    if soon < -0.05 then
      early = early + 1
      check(false, "%s: %.2f s too early", case.name, -soon)
    end
  end
end
local account = hostile.account(accepted, entries)
check(account.lost == 0 and account.duplicates == 0, "of %d messages %d are lost, %d came twice: %s", account.accepted,
  account.lost, account.duplicates, account.text)
torture.row("R5", "ways to ask for a pause that are followed, none too early", early == 0, ("%d of %d"):format(#SAID * 2 - early,
  #SAID * 2), "all")
torture.row_figure("R5", "a pause is longer than asked by", worst, 1, "s")
torture.row("R5", "requests of an account in its pause", during == 0, tostring(during), "0")
torture.row("R5", "lost, duplicates", account.lost + account.duplicates == 0, ("%d, %d of %d"):format(account.lost,
  account.duplicates, account.accepted), "0")
torture.done()
