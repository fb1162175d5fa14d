-- Who is compared: each gives a contestant, { name, run }, whose run tells { rate, cpu, peak }: messages a second, CPU
-- microseconds a message, bytes at the most.

local process = require "spec.bench.driver.process"

local M = {}

-- What our own programs print: a rate, and microseconds.
local function read(text, took)
  local rate, cpu, rest = text:match "^([%d.]+) ([%d.]+)%s*(.*)"
  if not rate then error("unexpected output: " .. text, 0) end
  local result = { rate = tonumber(rate), cpu = tonumber(cpu), peak = took.peak }
  for name, value in rest:gmatch "(%w+)=([%d.]+)" do result[name] = tonumber(value) end
  return result
end

local function program(name, words, side)
  return { name = name, needs = words[1], run = function() return read(process.run(words, { side = side or "client", seconds = 120 })) end }
end

--- NotifyHub, by a program of spec/bench/hub.
function M.hub(name, file, arguments, side)
  return { name = name, run = function() return read(process.hub(file, arguments, { side = side or "client", seconds = 300 })) end }
end

function M.saturate(name, http, count, in_flight, more, side)
  local arguments = { target = ("json://%s/bench"):format(http), count = count, in_flight = in_flight }
  for key, value in pairs(more or {}) do arguments[key] = value end
  return M.hub(name, "saturate", arguments, side)
end

function M.raw(http, count, in_flight, side)
  return program("raw sockets", { process.binary "raw_loop", ("http://%s/bench"):format(http), count, in_flight }, side)
end

function M.curl(http, count, in_flight, side)
  return program("libcurl loop", { process.binary "curl_loop", ("http://%s/bench"):format(http), count, in_flight }, side)
end

function M.curl_smtp(smtp, count)
  return program("libcurl loop", { process.binary "curl_smtp", "smtp://" .. smtp, count })
end

function M.apprise(http, count, threads)
  local name = ("Apprise, %d thread%s"):format(threads, threads > 1 and "s" or "")
  local one = program(name, { "/usr/bin/python3", "spec/bench/peers/apprise_loop.py", ("json://%s/bench"):format(http), count, threads })
  one.needs = "/usr/bin/apprise" -- Debian's, and so its Python
  return one
end

function M.go(http, count, in_flight)
  return program("Go net/http", { process.binary "go_loop", ("http://%s/bench"):format(http), count, in_flight })
end

--- wrk runs for a time: its processor time is all that it took, connecting included.
function M.wrk(http, in_flight, seconds, threads, side)
  local words = { "wrk", "-t" .. (threads or 1), "-c" .. in_flight, ("-d%ds"):format(seconds), "--timeout", "20s", "-s", "spec/bench/peers/wrk.lua",
                  ("http://%s/bench"):format(http) }
  return {
    name = threads and ("wrk, %d threads"):format(threads) or "wrk", needs = "wrk",
    run = function()
      local text, took = process.run(words, { side = side or "client" })
      local rate, requests, failed = text:match "wrk ([%d.]+) (%d+) (%d+)"
      if not rate then error("unexpected output: " .. text, 0) end
      if tonumber(failed) > 0 or tonumber(requests) == 0 then
        error(("wrk: of %d requests %d failed"):format(requests, failed), 0)
      end
      return { rate = tonumber(rate), cpu = took.cpu / requests * 1e6, peak = took.peak }
    end,
  }
end

return M
