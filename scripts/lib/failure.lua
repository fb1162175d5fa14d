-- failure: tells the operator what was not delivered: a line of the log for each delivery, or for a message that came to none.

local task = require "task"

local M = {}

-- What somebody asked for, or a choice has made good, is no reason to wake anybody.
local function level_of(code, superseded)
  return (superseded or code == "cancelled") and "info" or "warn"
end

-- Takes a receipt that is not all well.
function M.log(told)
  local lines = 0
  for _, each in ipairs(told.results) do
    if not each.ok then
      lines = lines + 1
      task.log(level_of(each.code, each.superseded), "delivery failed", {
        "id", told.id, "platform", each.platform or "", "target", each.target or "", "code", each.code, "status",
        each.status_code or 0, "attempts", each.attempts, "error", each.error,
      })
    end
  end
  if lines == 0 then
    task.log(level_of(told.code), "message failed", { "id", told.id, "code", told.code, "error", told.error or "" })
  end
end

return M
