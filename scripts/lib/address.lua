-- address: e-mail addresses as people write them and as a mail's header shows them (RFC 5322, without quoted local parts,
-- comments and other alphabets). Errors name the field and never print what stands in it.

local url = require "url"

local M = {}

-- The part behind the @, in lower case.
function M.domain(address)
  return address:match("@([^@]+)$"):lower()
end

-- Whether it is local@domain without quoting, comments or other alphabets.
local function is_address(address)
  local mailbox, domain = address:match("^([^@]+)@([^@]+)$")
  return mailbox ~= nil and #address <= 254 and #mailbox <= 64 and not mailbox:find("[^%w!#$%%&'*+/=?^_`{|}~.-]")
    and not mailbox:find("^%.") and not mailbox:find("%.$") and not mailbox:find("..", 1, true)
    and url.is_host(domain) and not domain:find(":", 1, true)
end

local KEPT = 256
local known, count = {}, 0 -- what was parsed before: an account's own addresses stand in each of its mails

-- "Jane Doe <jane@example.com>" or the address alone → { address =, name = }; or nil and what is wrong.
function M.parse(value, field)
  local before = known[value]
  if before then
    return { address = before.address, name = before.name }
  end
  if type(value) ~= "string" or value:find("[\0-\31\127]") then
    return nil, field .. ": holds a control character"
  end
  local name, address = value:match("^%s*(.-)%s*<([^<>]*)>%s*$")
  address = address or value:match("^%s*(.-)%s*$")
  if not is_address(address) then
    if address:find("[\128-\255]") and address:find("@", 1, true) then
      return nil, field .. ": an e-mail address in another alphabet cannot be written to (a domain can be written as xn--…)"
    end
    return nil, field .. ": not an e-mail address" .. (address:find("@", 1, true) and "" or ", it has no @")
  end
  name = name and name:gsub('^"(.*)"$', "%1"):gsub("\\(.)", "%1")
  name = name ~= "" and name or nil
  if count == KEPT then
    known, count = {}, 0
  end
  known[value], count = { address = address, name = name }, count + 1
  return { address = address, name = name }
end

-- A display name is a quoted string unless it is plain words; what is not ASCII the transport encodes.
function M.write(entry)
  if not entry.name then
    return entry.address
  end
  local name = entry.name
  if name:find("[^%w !#$%%&'*+/^_`{|}~\128-\255-]") then
    name = '"' .. name:gsub('[\\"]', "\\%0") .. '"'
  end
  return name .. " <" .. entry.address .. ">"
end

-- Several, separated by commas.
function M.join(entries)
  local list = {}
  for index, entry in ipairs(entries) do
    list[index] = M.write(entry)
  end
  return table.concat(list, ", ")
end

-- Each of a list (nil: none) → the entries; or nil and what is wrong.
function M.parse_list(values, field)
  local entries = {}
  for index, value in ipairs(values or {}) do
    local entry, message = M.parse(value, field)
    if not entry then
      return nil, message
    end
    entries[index] = entry
  end
  return entries
end

return M
