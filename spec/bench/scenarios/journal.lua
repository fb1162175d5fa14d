-- The journal, off and on, in a directory of the disk that holds the build. Sent in batches: one of a thousand is one commit.

local function has_journal(bench)
  local program = [[
    local hub, _, code = require "notifyhub".new { queue = { journal = arg[1] } }
    if hub then hub:close(5) end
    print(code or "yes")]]
  local script, file = os.tmpname(), os.tmpname()
  local out <close> = assert(io.open(script, "w"))
  out:write(program)
  out:flush()
  local text = bench.process.run { bench.process.notifyhub, "run", script, file .. ".journal" }
  os.execute(("rm -f '%s' '%s'*"):format(script, file))
  return text:find "yes" ~= nil
end

return {
  name = "journal", title = "The journal: off, on (FULL sync), 50 in flight",
  run = function(bench)
    local found = bench:try("is there one", has_journal, bench)
    if not found then
      bench:note "No journal in this build: a hub refuses `queue.journal`."
      return
    end
    local peers, http = bench.peers, bench.process.sink().http
    local count = bench:count(20000, 1000)
    local file = bench.process.binary "bench.journal"
    local function fresh(name, chunk)
      local with = peers.saturate(name, http, count, 50, { journal = file, chunk = chunk })
      local run = with.run
      with.run = function()
        os.execute(("rm -f '%s'*"):format(file))
        return run()
      end
      return with
    end
    bench:compare("", {
      peers.saturate("off", http, count, 50), fresh("on, batches of 100", 100), fresh("on, batches of 1,000", 1000),
    }, "off")
    os.execute(("rm -f '%s'*"):format(file))
  end,
}
