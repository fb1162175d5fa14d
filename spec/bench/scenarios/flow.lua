-- What must hold under load (spec/flow): the programs tell their own figures and whether they hold. Only in a whole run: the
-- suite runs them for seconds, ./dev torture for minutes.

local PROGRAMS = { { "reload", 60 }, { "asleep", 5 }, { "attacks", 1 }, { "worn", 10 } }

return {
  name = "flow", title = "Rules under load",
  run = function(bench)
    if bench.settings.scale < 1 then
      bench:note "Not in a short run: ./dev torture."
      return
    end
    bench.process.environment("NH_SOURCE_DIR", bench.process.read "pwd")
    for _, program in ipairs(PROGRAMS) do
      local name, seconds = program[1], program[2]
      local file = ("spec/flow/%s.lua"):format(name)
      local text = bench:try(name, bench.process.run, { bench.process.notifyhub, "run", file, seconds },
        { seconds = 240, any_status = true })
      if text then
        text = text:gsub("[^\n]*woke within[^\n]*\n", ""):gsub("%s+$", "")
        bench:note(("`notifyhub run %s %d`\n\n```\n%s\n```"):format(file, seconds, text))
      end
    end
  end,
}
