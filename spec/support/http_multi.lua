-- Has every hub send HTTP through libcurl's multi interface, unless its configuration says otherwise: the specs of what goes
-- over HTTP run a second time so (LUA_INIT), and have to see no difference.
package.preload.notifyhub = function()
  package.preload.notifyhub = nil
  local notifyhub = require "notifyhub"
  local new = notifyhub.new
  notifyhub.new = function(config, ...)
    if type(config) == "table" and (config.transport == nil or type(config.transport) == "table") then
      local changed, transport = {}, { http = "multi" }
      for key, value in pairs(config) do
        changed[key] = value
      end
      for key, value in pairs(config.transport or {}) do
        transport[key] = value
      end
      changed.transport = transport
      config = changed
    end
    return new(config, ...)
  end
  return notifyhub
end
