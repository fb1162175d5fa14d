-- config: checks what a hub is opened with and puts every default in place.

local platform = require "platform"
local schema = require "schema"

local M = {}

local WORKERS = {
  min = { type = "integer", min = 1, max = 64 },
  max = { type = "integer", min = 1, max = 64 },
  start = { type = "integer", min = 1, max = 64 },
  in_flight = { type = "integer", min = 1, max = 1000000, default = 2048 },
  idle = { type = "number", min = 0, max = 86400, default = 10 },
}

local QUEUE = {
  capacity = { type = "integer", min = 1, max = 100000000, default = 100000 },
  bytes = { type = "integer", min = 1024, max = 1 << 40, default = 256 << 20 },
  message_bytes = { type = "integer", min = 256, max = 64 << 20, default = 32 << 20 },
  journal = { type = "string" },
  journal_bytes = { type = "integer", min = 1 << 20, max = 1 << 46, default = 1 << 30 },
  window = { type = "integer", min = 16, max = 10000000, default = 10000 },
  window_bytes = { type = "integer", min = 1024, max = 1 << 40, default = 32 << 20 },
  dead_letters = { type = "integer", min = 1, max = 10000000, default = 10000 },
  dedupe_window = { type = "number", min = 0.001, max = 31536000, default = 300 },
  dedupe_keys = { type = "integer", min = 1, max = 100000000, default = 100000 },
}

local TRANSPORT = {
  connections = { type = "integer", min = 1, max = 100000, default = 1024 },
  response_bytes = { type = "integer", min = 256, max = 64 << 20, default = 64 << 10 },
  header_bytes = { type = "integer", min = 256, max = 1 << 20, default = 64 << 10 },
  connect_timeout = { type = "number", min = 0.001, max = 3600, default = 5 },
  timeout = { type = "number", min = 0.001, max = 86400, default = 30 },
  http = { type = "string", one_of = { "direct", "multi" }, default = "direct" },
}

local RETRY = {
  attempts = { type = "integer", min = 1, max = 100, default = 3 },
  backoff = { type = "string", one_of = { "exponential", "linear", "fixed" }, default = "exponential" },
  initial = { type = "number", min = 0, max = 86400, default = 0.5 },
  max = { type = "number", min = 0, max = 86400, default = 30 },
  multiplier = { type = "number", min = 1, max = 100, default = 2 },
  jitter = { type = "number", min = 0, max = 1 }, -- unless it is said: JITTER
}

-- Senders that failed together should not come back together; who asks for a fixed pause means it.
local JITTER = { exponential = 1, linear = 0, fixed = 0 }

-- A policy that stands over another: what it does not say is the other's.
M.GIVEN_RETRY = {}
for name, field in pairs(RETRY) do
  M.GIVEN_RETRY[name] = { type = field.type, min = field.min, max = field.max, one_of = field.one_of }
end

local LIMITS = {
  slice = { type = "number", min = 0.001, max = 60, default = 0.1 },
  loading = { type = "number", min = 0.01, max = 600, default = 5 },
  state_memory = { type = "integer", min = 1 << 20, max = 1 << 36, default = 64 << 20 },
  message_memory = { type = "integer", min = 64 << 10, max = 1 << 36, default = 8 << 20 },
  string_bytes = { type = "integer", min = 1024, max = 1 << 30, default = 1 << 20 },
  pattern_steps = { type = "integer", min = 1000, max = 1000000000, default = 1000000 },
  depth = { type = "integer", min = 10, max = 10000, default = 200 },
  sends = { type = "integer", min = 1, max = 100000, default = 100 },
  sleepers = { type = "integer", min = 1, max = 10000000, default = 100000 },
  store_entries = { type = "integer", min = 1, max = 100000000, default = 100000 },
  store_bytes = { type = "integer", min = 1024, max = 1 << 36, default = 64 << 20 },
}

local RELOAD = {
  watch = { type = "boolean", default = true },
  drain = { type = "number", min = 0, max = 31536000, default = 3600 },
}

local LOG = {
  level = { type = "string", one_of = { "error", "warn", "info", "debug" }, default = "warn" },
  format = { type = "string", one_of = { "logfmt", "json" }, default = "logfmt" },
  to = { type = "string", one_of = { "none", "stderr", "program" }, default = "none" },
}

local LANES = {
  enabled = { type = "boolean", default = true },
  start = { type = "integer", min = 1, max = 100000 },
  most = { type = "integer", min = 1, max = 100000 },
  total = { type = "integer", min = 1, max = 1000000, default = 10000 },
}

local BREAKER = {
  enabled = { type = "boolean", default = true },
  wait = { type = "number", min = 0, max = 86400 * 365, default = 60 },
}

local GROUPS = { workers = WORKERS, queue = QUEUE, transport = TRANSPORT, retry = RETRY, limits = LIMITS, reload = RELOAD,
                 log = LOG, lanes = LANES, breaker = BREAKER }

-- What a message may have that a script makes or changes (rules: send).
M.MESSAGE = {
  title = { type = "string" }, body = { type = "string" },
  format = { type = "string", one_of = { "text", "markdown", "html" } },
  priority = { type = "string", one_of = { "low", "normal", "high", "urgent" } },
  targets = { type = "table" }, template = { type = "string" }, variables = { type = "table" },
  metadata = { type = "table" }, platform = { type = "table" }, attachments = { type = "table" },
  retry = { type = "table" },
}

local ROOT = {
  workers = { type = "table", default = {} },
  queue = { type = "table", default = {} },
  transport = { type = "table", default = {} },
  retry = { type = "table", default = {} },
  limits = { type = "table", default = {} },
  reload = { type = "table", default = {} },
  log = { type = "table", default = {} },
  lanes = { type = "table", default = {} },
  breaker = { type = "table", default = {} },
  guard = { type = "string", one_of = { "private", "none" }, default = "none" },
  guard_allow = { type = "list", default = {} },
  rules = { type = "string" },
  allow = { type = "list", default = {} },
  env = { type = "list", default = {} },
  platforms = { type = "table", default = {} },
  targets = { type = "table", default = {} },
  script_path = {},
  config_file = {},
}

local COMMON = { rate = true, target_rate = true, retry = true } -- what every account may say beside its adapter's options

-- { name = options } → { name = { platform =, options =, rate =, target_rate =, retry = } }. An account is named after its
-- platform unless it says which.
local function accounts(platforms)
  local all = {}
  for name, given in pairs(platforms) do
    local path = "platforms." .. tostring(name)
    if type(given) ~= "table" then
      schema.fail("config", "%s: must be a table, not a %s", path, type(given))
    end
    local options, common = {}, {}
    for key, value in pairs(given) do
      if COMMON[key] then
        common[key] = value
      elseif key ~= "platform" then
        options[key] = value
      end
    end
    local adapter_name = given.platform or name
    local adapter = platform.adapter(adapter_name)
    if not adapter then
      schema.fail("config", "%s: there is no platform '%s'%s", path, adapter_name,
        schema.suggest(adapter_name, schema.names(platform.known())))
    end
    platform.account(name, adapter, options, path)
    all[name] = {
      platform = adapter_name, options = options, rate = platform.rate(common.rate, adapter.rate, path .. ".rate"),
      target_rate = platform.rate(common.target_rate, adapter.target_rate, path .. ".target_rate"),
      retry = common.retry and schema.check(common.retry, M.GIVEN_RETRY, path .. ".retry"),
    }
  end
  return all
end

local TARGET = { platform = { type = "string" }, type = { type = "string" }, value = { type = "string" } }

-- A target: a string, a table {platform, type, value}, or a list of these.
local function check_target(target, path)
  if type(target) == "string" then
    return
  elseif type(target) ~= "table" then
    schema.fail("config", "%s: must be a target or a list of targets, not a %s", path, type(target))
  elseif target.platform or target.value then
    schema.check(target, TARGET, path)
    return
  end
  for key, inner in pairs(target) do
    if math.type(key) ~= "integer" then
      schema.fail("config", "%s.%s: a target has platform, type and value", path, key)
    end
    check_target(inner, ("%s[%d]"):format(path, key))
  end
end

-- Each scheme and native prefix → the adapter's name. An adapter's scheme is its own; two that want one are a mistake.
local function index()
  local schemes, natives = {}, {}
  for name in pairs(platform.known()) do
    local adapter = platform.adapter(name)
    for _, scheme in ipairs(adapter.schemes) do
      if schemes[scheme] then
        schema.fail("config", "adapters.%s: the scheme '%s' belongs to '%s'", name, scheme, schemes[scheme])
      end
      schemes[scheme] = name
    end
    for _, prefix in ipairs(adapter.native) do
      natives[#natives + 1] = { prefix = prefix, platform = name }
    end
  end
  table.sort(natives, function(a, b) return #a.prefix > #b.prefix end)
  return schemes, natives
end

-- A path of the configuration file starts in its folder.
local function beside(file, path)
  local folder = file and file:match "^(.*/)"
  return folder and path and path:sub(1, 1) ~= "/" and folder .. path or path
end

-- `secrets` are the values of env, file and notifyhub.secret in it.
function M.prepare(config, secrets)
  config = config or {}
  platform.hide(secrets)
  for name in pairs(config) do
    if not ROOT[name] then
      schema.fail("config", "%s: unknown option%s", tostring(name), schema.suggest(name, schema.names(ROOT)))
    end
  end
  local prepared = {}
  for name, fields in pairs(GROUPS) do
    prepared[name] = schema.check(config[name] or {}, fields, name)
  end
  local workers = prepared.workers
  local most = workers.max or 64
  if (workers.min or 1) > most then
    schema.fail("config", "workers.min: %d is more than workers.max, %d", workers.min, most)
  end
  if workers.start and (workers.start > most or workers.start < (workers.min or 1)) then
    schema.fail("config", "workers.start: %d is not between workers.min and workers.max", workers.start)
  end
  if config.config_file ~= nil and type(config.config_file) ~= "string" then
    schema.fail("config", "config_file: must be a string, not a %s", type(config.config_file))
  end
  prepared.queue.journal = beside(config.config_file, prepared.queue.journal)
  for _, name in ipairs { "rules", "allow", "env", "guard", "guard_allow" } do
    prepared[name] = schema.check({ [name] = config[name] }, { [name] = ROOT[name] }, "")[name]
  end
  prepared.accounts = accounts(schema.check({ platforms = config.platforms }, { platforms = ROOT.platforms }, "").platforms)
  prepared.targets = schema.check({ targets = config.targets }, { targets = ROOT.targets }, "").targets
  for name, target in pairs(prepared.targets) do
    check_target(target, "targets." .. tostring(name))
  end
  prepared.schemes, prepared.natives = index()
  prepared.secrets = secrets
  return prepared
end

-- A message's own retry policy over its route's over its account's over the configured one, key by key.
function M.retry(message, of_route, of_account, configured)
  local own = message.retry
  local policy = {}
  for name in pairs(RETRY) do
    policy[name] = own and own[name] or of_route and of_route[name] or of_account and of_account[name] or configured[name]
  end
  policy.jitter = policy.jitter or JITTER[policy.backoff]
  return policy
end

return M
