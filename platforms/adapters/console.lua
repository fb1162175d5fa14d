-- console: prints messages, for first steps and for watching what rules do.

local text = require "text"

return {
  summary = "The terminal",
  transport = "console",
  schemes = { "console" },
  urls = { "console://[stdout]", "console://stderr" },
  example = "console://stderr",
  formats = { "text", "markdown", "html" }, -- printed as they are
  limits = { body = 1048576, title = 4096, unit = "bytes" },
  attachments = "none",
  group = false,
  recipients = {},

  options = {
    stream = { type = "string", one_of = { "stdout", "stderr" }, default = "stdout", help = "where to print" },
  },
  message_options = {},

  -- console:// or console://stderr
  parse = function(parsed)
    if next(parsed.query) or #parsed.path > 0 or parsed.user or parsed.port then
      return nil, "url: must be console://, console://stdout or console://stderr"
    end
    return { stream = parsed.host ~= "" and parsed.host or nil }, {}
  end,

  -- Control characters are shown, not sent: a message must not drive the terminal.
  request = function(delivery)
    local lines = {}
    local priority = delivery.message.priority
    local mark = priority ~= "normal" and "[" .. priority .. "] " or ""
    if delivery.title ~= "" then
      lines[1] = mark .. text.visible(delivery.title):gsub("\n", " ")
      mark = ""
    end
    if delivery.body ~= "" then
      lines[#lines + 1] = mark .. text.visible(delivery.body)
    end
    return { text = table.concat(lines, "\n") .. "\n", stream = delivery.account.stream }
  end,

  response = function()
    return { ok = true }
  end,
}
