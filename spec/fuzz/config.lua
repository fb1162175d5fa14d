-- What config_fuzz.c calls with each configuration.

local main = require "main"

return function(config)
  return main.prepare(config, {})
end
