-- What was measured, as it is shown: tables of text for a terminal, of Markdown for docs/performance.md.

local M = {}

local function thousands(number)
  local text, swaps = ("%.0f"):format(number), 1
  while swaps > 0 do text, swaps = text:gsub("^(-?%d+)(%d%d%d)", "%1,%2") end
  return text
end
M.thousands = thousands

--- A figure with three digits that count.
function M.figure(number)
  if not number then return "" end
  local size = math.abs(number)
  return size >= 1000 and thousands(number) or size >= 100 and ("%.0f"):format(number)
    or size >= 10 and ("%.1f"):format(number) or ("%.2f"):format(number)
end

function M.percent(part) return part and ("%.0f %%"):format(part * 100) or "" end
function M.megabytes(bytes) return bytes and ("%.1f"):format(bytes / 2 ^ 20) or "" end

-- Figures stand at the right, words at the left.
local function is_figure(text) return text == "" or text:find "^[%d.,+-]+ ?[%%µsm]*$" ~= nil end

local function width(text) return utf8.len(text) or #text end

local function padded(text, to, right)
  local space = (" "):rep(to - width(text))
  return right and space .. text or text .. space
end

local function shape(head, rows)
  local widths, right = {}, {}
  for column, title in ipairs(head) do
    widths[column], right[column] = width(title), #rows > 0
    for _, row in ipairs(rows) do
      widths[column] = math.max(widths[column], width(row[column]))
      right[column] = right[column] and is_figure(row[column])
    end
  end
  return widths, right
end

function M.text(head, rows)
  local widths, right = shape(head, rows)
  local lines = {}
  for number = 0, #rows do
    local row, cells = rows[number] or head, {}
    for column = 1, #head do cells[column] = padded(row[column], widths[column], right[column]) end
    lines[#lines + 1] = (table.concat(cells, "  "):gsub("%s+$", ""))
  end
  return table.concat(lines, "\n")
end

function M.markdown(head, rows)
  local _, right = shape(head, rows)
  local rule = {}
  for column = 1, #head do rule[column] = right[column] and "---:" or "---" end
  local lines = { "| " .. table.concat(head, " | ") .. " |", "|" .. table.concat(rule, "|") .. "|" }
  for _, row in ipairs(rows) do
    local cells = {}
    for column = 1, #head do cells[column] = (row[column]:gsub("|", "\\|")) end
    lines[#lines + 1] = "| " .. table.concat(cells, " | ") .. " |"
  end
  return table.concat(lines, "\n")
end

return M
