-- What a server says about when to come back: "Retry-After\nDate", both anything; and the dates that are right.

local result = require "result"

local FORMS = { "!%a, %d %b %Y %H:%M:%S GMT", "!%A, %d-%b-%y %H:%M:%S GMT", "!%a %b %e %H:%M:%S %Y" }
local LAST = { 253402300799, 3155759999, 253402300799 } -- 31 December 9999; two digits name years up to 2069

-- Each form of each moment is read as that moment.
local function dates_are_read(moment)
  for index, form in ipairs(FORMS) do
    local at = moment % (LAST[index] + 1)
    local text = os.date(form, at)
    assert(result.http_date(text) == at, text)
  end
end

return function(input)
  local value, date = input:match("^([^\n]*)\n?(.*)$")
  for _, seconds in ipairs { result.retry_after(value, date) or 1, result.retry_after(value) or 1,
                             result.retry_after(tonumber(value), date) or 1 } do
    assert(seconds >= 1 and seconds <= 3600, seconds) -- false for what is no number, too
  end
  if value:find("^%d+$") then
    assert(result.retry_after(value) == math.min(math.max(tonumber(value), 1), 3600), "seconds are followed")
  end
  local at = result.http_date(value)
  assert(at == nil or math.type(at) == "integer", "a date is whole seconds")
  if #input >= 5 then
    dates_are_read(string.unpack("<I5", input))
  end
end
