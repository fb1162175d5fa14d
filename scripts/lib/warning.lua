-- warning: what is odd about a message and does not keep it from going out. Stands in its receipt and in the log.

local script = require "script"

local M = {}

local MOST = 20 -- of one receipt

function M.add(context, event, text)
  context.warnings = context.warnings or {}
  if #context.warnings < MOST then
    context.warnings[#context.warnings + 1] = text
    script.log("warn", event, ("%s: %s"):format(context.id, text))
  end
end

return M
