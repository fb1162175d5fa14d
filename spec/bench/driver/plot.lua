-- Plots, by gnuplot, as SVG.

local M = {}

local STYLE = [[
set terminal svg size 720,400 font "sans-serif,13" background "white"
set grid lc rgb "#dddddd"
set border 3 lc rgb "#666666"
set tics nomirror
set key outside right top
set datafile missing "?"
]]

local COLORS = { "#1f6fb4", "#d1495b", "#777777", "#2e933c", "#edae49", "#7d4f9e" }

-- The points of one line as a data block of gnuplot.
local function block(number, points)
  local lines = { ("$line%d << END"):format(number) }
  for _, point in ipairs(points) do lines[#lines + 1] = ("%.6g %.6g"):format(point[1], point[2]) end
  lines[#lines + 1] = "END\n"
  return table.concat(lines, "\n")
end

--- plot: { file, title, x, y, logx, logy, lines = { { name, points = { {x, y}, … } }, … } }
function M.draw(folder, plot)
  local script = { STYLE, ("set output %q\n"):format(folder .. "/" .. plot.file), ("set title %q\n"):format(plot.title),
                   ("set xlabel %q\nset ylabel %q\n"):format(plot.x, plot.y) }
  if plot.logx then script[#script + 1] = "set logscale x\n" end
  script[#script + 1] = plot.logy and "set logscale y\n" or "set yrange [0:*]\n"
  local parts = {}
  for number, line in ipairs(plot.lines) do
    script[#script + 1] = block(number, line.points)
    parts[number] = ("$line%d using 1:2 with linespoints lw 2 pt 7 ps 0.5 lc rgb %q title %q"):format(number,
      COLORS[(number - 1) % #COLORS + 1], line.name)
  end
  script[#script + 1] = "plot " .. table.concat(parts, ", ") .. "\n"
  local pipe = assert(io.popen("gnuplot", "w"))
  pipe:write(table.concat(script))
  return pipe:close()
end

return M
