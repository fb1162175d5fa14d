-- Answers that no server should give: cut off, without end, a byte a second, garbage, none; and certificates that are not to be
-- trusted. R6: each attempt ends within its deadline and a second, with the right code; no more than 64 KiB of an answer are
-- held, and the worker's memory grows by less than 5 MB. Other messages flow meanwhile, and notice nothing. Both ways of HTTP
-- (transport.http) are tried.
--
--   notifyhub run spec/flow/answers.lua [SECONDS]

local notifyhub = require "notifyhub"

local hostile = require "spec.support.hostile"
local torture = require "spec.support.torture"

local SECONDS = tonumber(arg[1]) or 0 -- for rounds: one at least
local CONNECT, TIMEOUT = 3 * (torture.strict and 1 or 3), 4 * (torture.strict and 1 or 3) -- seconds: the deadlines
local COPIES = 4 -- of each, at once
local MEMORY = 5e6
local check, say = torture.check, torture.say

-- Path, port, scheme, the codes that it may end with, and how many attempts it has: a kept connection that ends when the next
-- request is on its way may cost one.
local CASES = {
  { "/half/reset", codes = "network" },
  { "/half/close", codes = "network" },
  { "/half/hang", codes = "timeout" },
  { "/reset", codes = "network" },
  { "/stall", codes = "timeout" },
  { "/drip/header", codes = "timeout" },
  { "/drip/body", codes = "timeout" },
  { "/endless/body", codes = "too_large" },
  { "/endless/unsized", codes = "too_large" },
  { "/endless/chunks", codes = "too_large" },
  -- Only the deadline ends it; several would keep the processor from all others until then.
  { "/endless/chunk-extension", codes = "timeout too_large network", copies = 1 },
  { "/endless/header", codes = "too_large" },
  { "/endless/continue", codes = "too_large" },
  { "/endless/status", codes = "too_large" },
  { "/headers", codes = "too_large" },
  { "/garbage", codes = "network" },
  { "/redirect/127.0.0.1:1", codes = "rejected" },
  { "/end/after", codes = "delivered", attempts = 3 },
  { "/end/reset", codes = "delivered", attempts = 3 },
  { "/end/second", codes = "delivered", attempts = 3 },
  { "/ok/stalls-after-connect", port = "mute", codes = "timeout" },
  { "/ok/does-not-accept", port = "full", codes = "timeout" },
  { "/ok/tls-to-plain", scheme = "https", trusts = true, codes = "tls network" },
  { "/ok/tls-to-mute", port = "mute", scheme = "https", trusts = true, codes = "timeout" },
  { "/ok/plain-to-tls", port = "good", codes = "network" },
  { "/ok/self-signed", port = "self", scheme = "https", trusts = true, codes = "tls" },
  -- This one with the authorities of the system, which take a megabyte: it is theirs, not the answer's.
  { "/ok/unknown-authority", port = "good", scheme = "https", copies = 1, codes = "tls" },
  { "/ok/expired", port = "expired", scheme = "https", trusts = true, codes = "tls" },
  { "/ok/another-name", port = "name", scheme = "https", trusts = true, codes = "tls" },
  { "/ok/trusted", port = "good", scheme = "https", trusts = true, codes = "delivered" },
  { "/failed/slack", platform = "slack", codes = "rejected unknown_target" },
  { "/failed/text", platform = "slack", codes = "rejected auth" },
  { "/failed/html", platform = "slack", codes = "rejected" },
  { "/failed/feishu", platform = "feishu", codes = "rejected auth" },
  { "/failed/empty", platform = "feishu", codes = "rejected" },
  { "/failed/html", platform = "feishu", codes = "rejected" },
  { "/failed/list", platform = "feishu", codes = "rejected" },
  { "/failed/deep", platform = "feishu", codes = "rejected" },
  { "/failed/bytes", platform = "feishu", codes = "rejected" },
}

local sink = hostile.start()
local platforms = {}
for index, case in ipairs(CASES) do
  local url = sink:target(case[1], case.port, case.scheme or "http")
  local platform = case.platform or "webhook"
  local account = { platform = platform, url = platform == "webhook" and url or nil, ca_file = case.trusts
    and sink.directory .. "/ca.pem" or nil }
  if platform ~= "webhook" then
    account.webhook_url = url
  end
  case.account = "c" .. index
  platforms[case.account] = account
end
-- Every case shares the sink's host: its breaker and its lane would know no single one's end.
platforms.trusted = { url = sink:target("/ok/good", "good", "https"), ca_file = sink.directory .. "/ca.pem", platform = "webhook" }
local hub -- of the way that is tried

local function open_hub(way)
  hub = assert(notifyhub.new {
    platforms = platforms, targets = { healthy = sink:target("/ok", "http2") }, retry = { attempts = 1 },
    transport = { connect_timeout = CONNECT, timeout = TIMEOUT, http = way }, lanes = { enabled = false },
    breaker = { enabled = false }, workers = { min = 1, max = 1 },
  })
end

local nth, accepted = 0, {}
local function healthy(target)
  nth = nth + 1
  accepted["h" .. nth] = target ~= "trusted" or nil -- the ledger does not know of TLS
  return assert(hub:send_async { title = hostile.mark("h" .. nth), body = "b", targets = { target or "healthy" } })
end

-- Bytes that the process has in memory now. Of this program's own Lua not much changes.
local function resident()
  local file <close> = assert(io.open "/proc/self/statm")
  local _, pages = file:read("n", "n")
  return pages * 4096
end

local peak, ended, wrong = 0, 0, 0

-- One round of all cases, `copies` of each. → the longest that an attempt took over its deadline.
local function round(copies)
  local handles, well = {}, {}
  local late = 0
  local busy = torture.kept_off()
  local before = busy()
  for _, case in ipairs(CASES) do
    for copy = 1, math.min(copies, case.copies or copies) do
      handles[#handles + 1] = {
        case, assert(hub:send_async {
          title = hostile.mark("c" .. copy), body = "b", targets = { case.account }, retry = { attempts = case.attempts or 1 },
        }),
      }
    end
  end
  local deadline = torture.now() + (TIMEOUT + 30) * torture.slow
  repeat
    well[#well + 1] = healthy()
    hub:sleep(0.02)
    peak = math.max(peak, resident())
    local open = false
    for _, pair in ipairs(handles) do
      open = open or not pair[2]:result()
    end
  until not open or torture.now() > deadline
  local kept = busy() - before
  for _, pair in ipairs(handles) do
    local case, receipt = pair[1], pair[2]:result()
    local name = case[1] .. " " .. (case.platform or "")
    if check(receipt, "%s: no end within %g s", name, torture.now() - deadline) then
      local result = receipt.results[1]
      local code = receipt.status == "delivered" and "delivered" or receipt.code
      ended = ended + 1
      if not check((" " .. case.codes .. " "):find(" " .. code .. " ", 1, true), "%s: %s: %s (wanted %s)", name, code,
        tostring(receipt.error), case.codes) then
        wrong = wrong + 1
      end
      check(#(receipt.error or "") < 2000, "%s: an error of %d bytes", name, #(receipt.error or ""))
      late = math.max(late, result.latency - (case.port == "full" and CONNECT or TIMEOUT))
    end
  end
  for _, handle in ipairs(well) do
    local receipt = handle:wait(30)
    check(receipt and receipt.status == "delivered", "a healthy message: %s", receipt and receipt.error or "no end")
  end
  return late, kept
end

local rounds, latest, forgiven, grown = 0, 0, 0, 0

-- Rounds for so many seconds by one way of HTTP.
local function try(way, seconds)
  open_hub(way)
  -- Everything that is loaded once is loaded, and there have been as many good answers at once as there will be bad ones.
  round(1)
  local good = {}
  for _, case in ipairs(CASES) do
    for _ = 1, COPIES do
      good[#good + 1] = case.scheme and healthy "trusted" or healthy(sink:target("/slow/1", "http3"))
    end
  end
  for _, handle in ipairs(good) do handle:wait(30 * torture.slow) end
  collectgarbage()
  local before = resident()
  peak = before
  local began = torture.now()
  repeat
    local late, kept = round(COPIES)
    rounds = rounds + 1
    if late > latest then
      latest, forgiven = late, kept
    end
  until torture.now() - began >= seconds
  say("%-8s memory grew by %.2f MB", way, (peak - before) / 1e6)
  grown = math.max(grown, peak - before)
  hub:close(5)
end

for _, way in ipairs { "direct", "multi" } do
  try(way, SECONDS / 2)
end

local fed, endless = 0, 0
local account = hostile.account(accepted, (function()
  local entries = {}
  for _, entry in ipairs(sink:stop()) do
    if entry.ended and entry.ended:find("^/endless") then
      endless = endless + 1
      if not entry.ended:find "extension" then
        fed = math.max(fed, entry.bytes)
      end
    elseif entry.id and entry.id:find "^h" then
      entries[#entries + 1] = entry
    end
  end
  return entries
end)())
say("%d rounds of %d cases, %d at once; %d healthy messages besides", rounds, #CASES, COPIES, account.accepted)
say("the sink could feed at most %.1f MB into an endless answer (buffers of the system included)", fed / 1e6)
check(endless > 0, "no endless answer was begun")
check(account.lost == 0 and account.duplicates == 0, "of %d healthy messages %d are lost, %d came twice: %s",
  account.accepted, account.lost, account.duplicates, account.text)
torture.row("R6", "attempts that end with the right code", wrong == 0, ("%d of %d"):format(ended - wrong, ended), "all")
say("(in the round of the latest one the workers were kept off the processor for %.1f s)", forgiven)
torture.row_figure("R6", "the latest one is over its deadline by", latest, 1, "s")
torture.row_figure("R6", "memory grown", grown / 1e6, MEMORY / 1e6, "MB")
torture.done()
