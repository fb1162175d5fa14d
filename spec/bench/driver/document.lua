-- docs/performance.md: what stands between <!-- bench NAME --> and <!-- /bench --> is written by ./dev bench --write.

local M = {}

local function slurp(path)
  local file <close> = assert(io.open(path))
  return file:read "a"
end

--- Puts each of `texts` (name → text) between its markers. A name that the document does not have, and a marker that has
--- no text, are left alone: the latter keeps the figures of an earlier run.
function M.write(path, texts)
  local before = slurp(path)
  local after = before:gsub("(<!%-%- bench (%w+) %-%->\n).-(<!%-%- /bench %-%->)", function(opening, name, closing)
    return texts[name] and opening .. texts[name] .. "\n" .. closing or nil
  end)
  if after == before then return false end
  local file <close> = assert(io.open(path, "w"))
  file:write(after)
  return true
end

return M
