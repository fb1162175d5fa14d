-- What each folder may see. Lua that runs in a host is written for 5.1 to 5.4.
std = "lua54"
max_line_length = 130
exclude_files = { "build" }
include_files = { "**/*.lua", ".luacheckrc", ".ci/includes" }

-- What a rules file sees beside Lua.
local rules = {
  "all", "any", "env", "fallback", "healthiest", "http", "json", "log", "now", "on", "resolve", "round_robin", "route",
  "send", "sleep", "store", "template", "weighted",
}

files[".luacheckrc"] = { std = "luacheckrc" }
-- What only some of these versions have, and a host's Lua asks for before it uses it.
local newer = { "jit", "setfenv", "unpack", coroutine = { fields = { "close" } }, table = { fields = { "unpack" } } }

files["bindings/**/*.lua"] = { std = "min", read_globals = newer }
files["bindings/**/*.d.lua"] = { std = "min", ignore = { "21.", "24." } } -- stubs: names without bodies
files["scripts/examples/**/*.lua"] = { std = "min", read_globals = newer }
files["**/rules/**/*.lua"] = { std = "lua54", read_globals = rules }
files["**/notifyhub.lua"] = { std = "lua54", read_globals = { "env", "file" } }
files["spec/**/*.lua"] = { std = "max+busted", max_line_length = 160 }
