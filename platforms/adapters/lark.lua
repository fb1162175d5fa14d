-- lark: Feishu outside of China. The same protocol at another host, so this is Feishu's adapter with other names.
--
-- https://open.larksuite.com/document/client-docs/bot-v3/add-custom-bot

local feishu = require "adapters.feishu"

local HOOK = "https://open.larksuite.com/open-apis/bot/v2/hook/"

local function with(original, changes)
  local copy = {}
  for key, value in pairs(original) do
    copy[key] = value
  end
  for key, value in pairs(changes) do
    copy[key] = value
  end
  return copy
end

return with(feishu, {
  summary = "Groups of Lark, by a custom bot",
  docs = "https://open.larksuite.com/document/client-docs/bot-v3/add-custom-bot",
  schemes = { "lark" },
  native = { HOOK },
  urls = { "lark://[secret@]token[/@all][/@user]…" },
  example = "lark://8f3c2d1e-0000-4b5a-9c7d-1a2b3c4d5e6f/@all",
  options = with(feishu.options, {
    base_url = with(feishu.options.base_url, { default = HOOK }),
    locale = with(feishu.options.locale, { default = "en_us" }),
  }),
})
