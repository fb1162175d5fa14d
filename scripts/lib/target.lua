-- target: who is meant. Turns what a sender writes (a URL, a name, an account, an address) into recipients of accounts.
--
-- A resolved entry is { account =, recipient = { type, value } or nil, shown = text } or, when it cannot be resolved,
-- { shown =, result = failed result }. One recipient that is named twice is told once; a name that leads back to itself is
-- an error of that target only. Rules may stand between: their resolvers are asked for every text that is no URL, and may
-- answer with targets or choices.

local choice = require "choice"
local platform = require "platform"
local result = require "result"
local schema = require "schema"
local url = require "url"

local M = {}

local config -- as config.prepare made it
local accounts = {} -- by name, made when first needed
local from_urls = {} -- accounts of target URLs: a bounded memory, since the same few come again and again
local URLS_MOST = 1000
local url_count = 0
local resolver -- of the rules: text → targets or nil

function M.setup(prepared, ask)
  config, resolver = prepared, ask
end

-- A configured account by name, or a platform's own when it needs no options.
local function find_account(name)
  if not accounts[name] then
    local configured = config.accounts[name]
    local adapter = platform.adapter(configured and configured.platform or name)
    if not adapter then
      return nil
    end
    local ok, account = pcall(platform.account, name, adapter, configured and configured.options or {}, name, "config")
    if not ok then
      return nil, account.message or tostring(account)
    end
    account.lane = name
    if configured then
      account.rate, account.target_rate, account.retry = configured.rate, configured.target_rate, configured.retry
    else
      account.rate, account.target_rate = platform.rate(nil, adapter.rate), platform.rate(nil, adapter.target_rate)
    end
    accounts[name] = account
  end
  return accounts[name]
end

local function failed(shown, code, ...)
  return { shown = shown, result = result.fail(code, string.format(...)) }
end

--------------------------------------------------------------------- URLs

local function platform_of(text, scheme)
  for _, native in ipairs(config.natives) do
    if text:sub(1, #native.prefix) == native.prefix then
      return native.platform
    end
  end
  return config.schemes[scheme]
end

-- An account of the URL's own: what a URL says is never mixed with configured credentials.
local function read_url(text)
  local parsed, message = url.parse(text)
  if not parsed then
    return { failure = message, code = "invalid" }
  end
  local name = platform_of(text, parsed.scheme)
  if not name then
    return {
      failure = ("no platform has the scheme '%s'%s"):format(parsed.scheme,
        schema.suggest(parsed.scheme, schema.names(config.schemes))),
      code = "unknown_platform",
    }
  end
  local adapter = platform.adapter(name)
  if not adapter.parse then
    return { failure = ("'%s' takes no target URLs"):format(name), code = "invalid" }
  end
  local options, recipients, code = adapter.parse(parsed)
  if not options then
    return { failure = recipients, code = code or "invalid" }
  end
  local ok, account = pcall(platform.account, name, adapter, options, "url", "invalid")
  if not ok then
    return { failure = account.message or tostring(account), code = "invalid" }
  end
  account.lane = ("%s %s"):format(name, parsed.host or "")
  account.rate, account.target_rate = platform.rate(nil, adapter.rate), platform.rate(nil, adapter.target_rate)
  return { account = account, recipients = recipients or {} }
end

local function add_url(text, add)
  local shown = url.shown(text)
  local read = from_urls[text]
  if not read then
    if url_count == URLS_MOST then
      from_urls, url_count = {}, 0
    end
    read = read_url(text)
    from_urls[text] = read
    url_count = url_count + 1
  end
  if read.failure then
    add(failed(shown, read.code, "%s", read.failure))
  elseif #read.recipients == 0 then
    add { account = read.account, shown = shown, url = text }
  else
    for _, recipient in ipairs(read.recipients) do
      add { account = read.account, recipient = recipient, shown = shown, url = text }
    end
  end
end

-------------------------------------------------------------- bare values

-- The type of a bare value, or nil.
local function type_of(text)
  if text:find("^[^%s@]+@[^%s@]+%.[^%s@]+$") then
    return "email"
  elseif text:find("^%+%d+$") then
    return "phone"
  elseif text:find("^#.") then
    return "channel"
  elseif text:find("^@.") then
    return "user"
  elseif text:find("^https?://") then
    return "webhook"
  end
end

local function takes(adapter, kind)
  for _, each in ipairs(adapter.recipients) do
    if each == kind then
      return true
    end
  end
  return false
end

-- The one configured account that can address this type.
local function account_for(kind)
  local found = {}
  for name, configured in pairs(config.accounts) do
    local adapter = platform.adapter(configured.platform)
    if takes(adapter, kind) or kind == "user" and takes(adapter, "group") then
      found[#found + 1] = name
    end
  end
  table.sort(found)
  if #found == 1 then
    return find_account(found[1])
  elseif #found == 0 then
    return nil, "unknown_platform", ("no configured platform can reach a recipient of type '%s'"):format(kind)
  end
  return nil, "unknown_target", ("several platforms could be meant: %s; write {platform =, value =}"):format(
    table.concat(found, ", "))
end

local function add_bare(text, kind, add)
  local account, code, message = account_for(kind)
  if not account then
    return add(failed(text, code, "%s", message))
  end
  if kind == "user" and not takes(account.adapter, "user") then
    kind = "group"
  end
  add { account = account, recipient = { type = kind, value = text }, shown = text }
end

-------------------------------------------------------------------- names

local DEEPEST = 16 -- names that stand for names
local NAMES_MOST = 2000 -- that one target stands for, those on the way included

local resolve

-- Resolves what a name stands for. `trail` has the names that led here, inside each other.
local function follow(text, named, add, trail)
  if trail.inside[text] then
    return add(failed(text, "unknown_target", "the target '%s' leads back to itself", text))
  elseif trail.depth == DEEPEST then
    return add(failed(text, "unknown_target", "more than %d names lead to each other, the last of them '%s'", DEEPEST, text))
  end
  trail.inside[text], trail.depth = true, trail.depth + 1
  resolve(named, add, trail)
  trail.inside[text], trail.depth = nil, trail.depth - 1
end

local function add_name(text, add, trail)
  local named = config.targets[text]
  if named ~= nil then
    return follow(text, named, add, trail)
  end
  local account, message = find_account(text)
  if account then
    return add { account = account, shown = text }
  elseif message then
    return add(failed(text, "unknown_target", "the platform is not configured: %s", message))
  end
  local names = schema.names(config.targets)
  table.move(schema.names(config.accounts), 1, #schema.names(config.accounts), #names + 1, names)
  table.move(schema.names(platform.known()), 1, #schema.names(platform.known()), #names + 1, names)
  local near = schema.suggest(text, names)
  local hint, shown = url.hint(text)
  add(failed(shown, "unknown_target", "there is no target, account or platform '%s'%s", shown, near ~= "" and near or hint))
end

local function add_table(target, add)
  local value, kind = target.value, target.type
  if not target.platform then
    return add_bare(value, kind or type_of(value) or "user", add)
  end
  local shown = value and url.shown(value) or target.platform
  local account, message = find_account(target.platform)
  if not account then
    if message then
      return add(failed(shown, "unknown_target", "the platform is not configured: %s", message))
    end
    return add(failed(shown, "unknown_platform", "there is no account or platform '%s'%s", target.platform,
      schema.suggest(target.platform, schema.names(platform.known()))))
  end
  kind = value and (kind or type_of(value) or account.adapter.recipients[1])
  if kind and not takes(account.adapter, kind) then
    if kind == "user" and takes(account.adapter, "group") then
      kind = "group"
    else
      return add(failed(shown, "unknown_target", "%s cannot reach a recipient of type '%s'", account.name, kind))
    end
  end
  add { account = account, recipient = value and { type = kind, value = value }, shown = shown }
end

local function add_resolved(text, add, trail)
  local answer = resolver and resolver(text)
  if answer == nil then
    return false
  end
  follow(text, answer, add, trail)
  return true
end

function resolve(target, add, trail)
  trail.count = trail.count + 1
  if trail.count > NAMES_MOST then
    error({ code = "script_limit", message = ("a target that stands for more than %d others"):format(NAMES_MOST) }, 0)
  elseif type(target) == "table" then
    if choice.is(target) then
      return add { choice = target }
    elseif target.platform or target.value then
      return add_table(target, add)
    end
    for _, inner in ipairs(target) do
      resolve(inner, add, trail)
    end
  elseif target:find("^[%a][%w+.-]*://") then
    add_url(target, add)
  elseif add_resolved(target, add, trail) then
    return
  elseif config.targets[target] ~= nil or config.accounts[target] then
    add_name(target, add, trail)
  else
    local kind = type_of(target)
    if kind then
      add_bare(target, kind, add)
    else
      add_name(target, add, trail)
    end
  end
end

local function key_of(entry)
  local recipient = entry.recipient
  if not recipient then
    return entry.url or entry.account or entry.shown
  end
  return ("%s\0%s\0%s"):format(entry.url or tostring(entry.account), recipient.type, recipient.value)
end

-- What a single text stands for, while nothing but the configuration decides that: the same few come again and again.
local known, known_count = {}, 0
local KNOWN_MOST, KNOWN_LENGTH = 1000, 512

-- The entries of a text as they are for every message, with the list of this text as it may be shown, not to be written to; nil
-- when more than the configuration has a say, or when it stands for nobody.
local function entries_of(text)
  if type(text) ~= "string" or #text > KNOWN_LENGTH or resolver and not text:find("^%a[%w+.-]*://") then
    return nil
  end
  local entries, choices = M.resolve(text, {})
  for _, entry in ipairs(entries) do
    if entry.result then
      return nil
    end
  end
  if choices or #entries == 0 then
    return nil
  end
  if known_count == KNOWN_MOST then
    known, known_count = {}, 0
  end
  entries.shown = { url.shown(text) }
  known[text], known_count = entries, known_count + 1
  return entries
end

-- An entry of its own for a message, which is a job of lib/delivery, too.
local function fresh(entry)
  local own = {
    false, account = entry.account, recipient = entry.recipient, shown = entry.shown,
    letter = nil, delivery = nil, started = nil, tried = nil, attempts = nil, delivered = nil, latency = nil, -- their room
  }
  own[1] = own
  return own
end

-- Fresh entries of a target that is a single text, or a list of one, when nothing but the configuration tells who that is, and
-- the list as it may be shown; nil for any other.
function M.simple(target)
  if type(target) == "table" and target[2] == nil and not target.platform and not target.value then
    target = target[1]
  end
  local found = known[target] or entries_of(target)
  if not found then
    return nil
  end
  local entries = { fresh(found[1]) }
  for index = 2, #found do
    entries[index] = fresh(found[index])
  end
  return entries, found.shown
end

-- A target → the entries that are new, and, when there are any, the choices in it and the entries that were there before.
-- `seen` remembers, by recipient, the entries of the same telling.
function M.resolve(target, seen)
  local entries, choices, before = {}, nil, nil
  resolve(target, function(entry)
    if entry.choice then
      choices = choices or {}
      choices[#choices + 1] = entry.choice
      return
    end
    local key = key_of(entry)
    local told = seen[key]
    if told then
      before = before or {}
      before[#before + 1] = told
    else
      seen[key] = entry
      entries[#entries + 1] = entry
    end
  end, { inside = {}, depth = 0, count = 0 })
  return entries, choices, before
end

-- A message's target as it may be shown.
function M.shown(target)
  if type(target) == "table" then
    target = target.value or target.platform
  end
  return url.shown(target)
end

-- The name of the account that a target leads to first, for those who choose by its health; nil when there is none.
function M.account_name(target)
  local entries = M.resolve(target, {})
  local account = entries[1] and entries[1].account
  return account and account.name
end

return M
