-- What it takes to be there, and to wait.

return {
  name = "start", title = "Start-up and idle",
  run = function(bench)
    bench:head("", "median", "least", "most")
    local process, report = bench.process, require "spec.bench.driver.report"
    local target = ("target=json://%s/bench"):format(process.sink().http)
    local runs = bench:count(21, 1)

    local function milliseconds(words)
      local _, took = process.run(words, { side = "client" })
      return took.seconds * 1000
    end
    local function series(case, unit, one)
      local values = {}
      for index = 1, runs do values[index] = bench:try(("%s (%d of %d)"):format(case, index, runs), one) end
      if #values == 0 then return nil end
      local middle = bench.median(values)
      bench:row { case, report.figure(middle) .. unit, report.figure(math.min(table.unpack(values))) .. unit,
                  report.figure(math.max(table.unpack(values))) .. unit }
      return middle
    end

    local version = series("notifyhub version", " ms", function() return milliseconds { process.notifyhub, "version" } end)
    local first = { process.notifyhub, "run", "spec/bench/hub/first.lua", target }
    local nothing = { process.notifyhub, "run", "spec/bench/hub/first.lua", target, "send=0" }
    local opened = series("hub open to the first answer", " ms", function() return milliseconds(first) - milliseconds(nothing) end)
    local memory = series("resident, two workers, rules loaded, idle", " MB", function()
      local text = process.hub("idle", { rules = "spec/bench/rules", target = "json://127.0.0.1:9/" })
      return tonumber(text) / 2 ^ 20
    end)
    bench:note "The first answer is after the first byte is sent: a little more than what the goal names is measured."
    bench:goal { what = "idle, two workers, rules loaded: resident", value = memory, most = 8, unit = "MB" }
    bench:goal { what = "notifyhub version", value = version, most = 10, unit = "ms" }
    bench:goal { what = "hub open to the first byte sent", value = opened, most = 20, unit = "ms" }
  end,
}
