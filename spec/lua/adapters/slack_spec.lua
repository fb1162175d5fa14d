local api = require "spec.support.script_api"
local json = api.require "json"
local slack = api.adapter "slack"

local HOOK, BOT = { webhook_url = "https://hooks.slack.com/services/T/B/C" }, { token = "xoxb-1" }

local function request(fields)
  fields.account = fields.account or HOOK
  return api.request(slack, fields)
end

local function payload(fields)
  return json.decode(request(fields).body)
end

local function mrkdwn(body)
  return payload { body = body, format = "markdown" }.attachments[1].text
end

local function judge(account, status, body, headers)
  return slack.response({ status = status, headers = headers or {}, body = body }, api.delivery(slack, { account = account }))
end

describe("slack", function()
  it("posts to the webhook", function()
    local built = request { title = "T", body = "B" }
    assert.same({ "POST", HOOK.webhook_url }, { built.method, built.url })
    assert.is_nil(built.bearer)
    assert.is_true(built.verify)
    assert.same({ mrkdwn = false, attachments = { { color = "good", fallback = "T", title = "T", text = "B" } } },
      json.decode(built.body))
  end)

  it("posts with a bot token to chat.postMessage", function()
    local built = request { title = "T", body = "B", account = BOT, recipients = { { type = "channel", value = "#general" } } }
    assert.same({ "https://slack.com/api/chat.postMessage", "xoxb-1" }, { built.url, built.bearer })
    assert.equal("#general", json.decode(built.body).channel)
    local _, _, code = request { title = "T", account = BOT }
    assert.equal("unknown_target", code)
    assert.equal("C012AB3CD", payload { title = "T", account = { token = "x", channel = "C012AB3CD" } }.channel)
  end)

  it("names channels and people as Slack does", function()
    local function channel(kind, value)
      return payload { title = "T", account = BOT, recipients = { { type = kind, value = value } } }.channel
    end
    assert.equal("#ops", channel("channel", "ops"))
    assert.equal("#ops", channel("channel", "#ops"))
    assert.equal("C012AB3CD", channel("channel", "C012AB3CD"))
    assert.equal("#COPS", channel("channel", "COPS"))
    assert.equal("@joe", channel("user", "joe"))
    assert.equal("@joe", channel("user", "@joe"))
    assert.equal("U012AB3CD", channel("user", "@U012AB3CD"))
    assert.equal("#private", channel("group", "@private"))
  end)

  describe("target URLs", function()
    it("have Apprise's shapes", function()
      local account, recipients = api.parse(slack, "slack://bot@T1AbC/B2/C3/#general/@joe/+C012AB3CD/ops?color=no")
      assert.same({ webhook_url = "https://hooks.slack.com/services/T1AbC/B2/C3", username = "bot", color = false }, account)
      assert.same({ { type = "channel", value = "#general" }, { type = "user", value = "joe" },
                    { type = "channel", value = "C012AB3CD" }, { type = "channel", value = "ops" } }, recipients)
      account, recipients = api.parse(slack, "slack://xoxb-1-2-aBc/#general")
      assert.same({ token = "xoxb-1-2-aBc" }, account)
      assert.equal(1, #recipients)
      assert(slack.check(api.account(slack, account)))
      assert.same({ webhook_url = "https://hooks.slack.com/services/T/B/C" }, (api.parse(slack, "https://hooks.slack.com/services/T/B/C")))
    end)

    for what, text in pairs {
      ["too few parts"] = "slack://A/B", ["a part that is none"] = "slack://A/B/C%2F..", ["an address"] = "slack://xoxb-1/joe@x.example",
      ["an unknown parameter"] = "slack://A/B/C?colour=no",
    } do
      it("with " .. what .. " are refused", function()
        assert.is_nil((api.parse(slack, text)))
      end)
    end
  end)

  it("checks the account", function()
    local function check(options) return slack.check(api.account(slack, options)) end
    assert.is_nil(check {})
    assert.is_nil(check { token = "x", webhook_url = "https://x.example/" })
    assert.is_nil(check { webhook_url = "hooks.slack.com" })
    assert(check(HOOK))
    assert(check(BOT))
  end)

  describe("escaping (fault 15)", function()
    local HOSTILE = "<!channel> <@U123> <https://evil.example|bank> & a<b>c"
    local ESCAPED = "&lt;!channel&gt; &lt;@U123&gt; &lt;https://evil.example|bank&gt; &amp; a&lt;b&gt;c"

    it("reaches title, text, fallback and what stands beside blocks", function()
      local sent = payload { title = HOSTILE, body = HOSTILE }.attachments[1]
      assert.same({ ESCAPED, ESCAPED, ESCAPED }, { sent.title, sent.text, sent.fallback })
      assert.equal(ESCAPED .. "\n" .. ESCAPED, payload { title = HOSTILE, body = HOSTILE, options = { blocks = { { type = "divider" } } } }.text)
      assert.equal(ESCAPED, payload { body = HOSTILE, account = { webhook_url = HOOK.webhook_url, color = false } }.text)
    end)

    it("holds in markdown too, in code, links and headings", function()
      for _, frame in ipairs { "%s", "**%s**", "`%s`", "# %s", "- %s", "> %s", "```\n%s\n```", "[%s](https://x.example)", "*_%s" } do
        local text = mrkdwn((frame:gsub("%%s", "<!channel>")))
        assert.is_nil(text:find("<!", 1, true), text)
        assert.is_truthy(text:find("&lt;!channel&gt;", 1, true), text)
      end
      assert.equal("&lt;!channel|x&gt;", mrkdwn("<!channel|x>"))
      assert.equal("x", mrkdwn("[x](javascript:alert)"))
      assert.equal("<https://x.example/%7C%3E|a¦b>", mrkdwn("[a|b](https://x.example/|%3E)"))
    end)

    it("leaves only links that were links, whatever comes", function()
      math.randomseed(15)
      local alphabet = { "<", ">", "&", "!", "@", "[", "]", "(", ")", "*", "_", "~", "`", "|", "a", " ", "\n", "https://x.example", "\\", "#", "é" }
      for _ = 1, 3000 do
        local parts = {}
        for index = 1, math.random(1, 20) do
          parts[index] = alphabet[math.random(#alphabet)]
        end
        local text = mrkdwn(table.concat(parts)) or ""
        for tag in text:gmatch("<([^>]*)") do
          assert.is_truthy(tag:find("^https://x%.example"), text)
        end
        assert.is_nil(text:gsub("&amp;", ""):gsub("&lt;", ""):gsub("&gt;", ""):find("&"), text)
      end
    end)
  end)

  describe("markdown", function()
    local cases = {
      ["**bold** and __bold__"] = "*bold* and *bold*", ["*it* and _it_"] = "_it_ and _it_", ["***both***"] = "*_both_*",
      ["~~gone~~ ~not~"] = "~gone~ ~not~", ["**a *b* c**"] = "*a _b_ c*", ["snake_case_name 2*3*4"] = "snake_case_name 2_3_4",
      ["# Head **x** #"] = "*Head x*", ["- one\n* two\n  + three"] = "• one\n• two\n  • three", ["1. one"] = "1. one",
      ["> quote **b**"] = "> quote *b*", ["`a **b** <c>`"] = "`a **b** &lt;c&gt;`", ["``a ` b``"] = "`a ` b`",
      ["[t & u](https://x.example/?a=1&b=2)"] = "<https://x.example/?a=1&amp;b=2|t &amp; u>",
      ["![cat](https://x.example/c.png)"] = "<https://x.example/c.png|cat>", ["<https://x.example>"] = "<https://x.example>",
      ["[mail](mailto:a@x.example)"] = "<mailto:a@x.example|mail>",
      ["```lua\nif a < b then\n# x\n```"] = "```\nif a &lt; b then\n# x\n```", ["```\nopen"] = "```\nopen\n```",
      ["\\*not\\*"] = "*not*", ["a * b * c"] = "a * b * c", ["**open"] = "**open", ["---"] = "———", ["[ ] todo"] = "[ ] todo",
      ["**飞书** 通知"] = "*飞书* 通知", ["a\r\nb"] = "a\nb",
    }
    for source, expected in pairs(cases) do
      it("turns " .. source:gsub("\n", "⏎") .. " into mrkdwn", function()
        assert.equal(expected, mrkdwn(source))
      end)
    end

    it("is sent as mrkdwn, plain text is not", function()
      local sent = payload { title = "T", body = "B", format = "markdown" }
      assert.same({ "text" }, sent.attachments[1].mrkdwn_in)
      assert.is_nil(sent.mrkdwn)
      assert.is_false(payload { body = "*B*" }.mrkdwn)
      sent = payload { body = "*B*", options = { mrkdwn = true } }
    assert.is_true(sent.mrkdwn)
    assert.same({ "text" }, sent.attachments[1].mrkdwn_in)
    end)

    it("is linear", function()
      local started = os.clock()
      for _, piece in ipairs { "*", "**", "_a ", "`", "``` ", "[", "[a](", "<", "<https://", "\\", "*a ", "**a **", "~~", "![", "_", "a_" } do
        mrkdwn(piece:rep(35000 // #piece))
      end
      assert.is_true(os.clock() - started < 10)
    end)
  end)

  it("has the colour of its priority", function()
    for priority, color in pairs { urgent = "danger", high = "warning", normal = "good", low = "#9e9e9e" } do
      assert.equal(color, payload { title = "T", message = { priority = priority } }.attachments[1].color)
    end
    local plain = payload { title = "T", body = "B", format = "markdown", account = { token = "x", channel = "#c", color = false } }
    assert.equal("*T*\nB", plain.text)
    assert.is_nil(plain.attachments)
  end)

  it("sends blocks, attachments and the rest as they are given", function()
    local options = {
      blocks = { { type = "section", text = { type = "mrkdwn", text = "<!here> hi" } } },
      attachments = { { color = "#123456", text = "<@U1>" } },
      thread_ts = "1700000000.000100", reply_broadcast = true, username = "bot", icon_emoji = ":robot_face:",
      icon_url = "https://x.example/i.png", unfurl_links = false, unfurl_media = true,
    }
    local sent = payload { title = "T", body = "B", options = options }
    for name, value in pairs(options) do
      assert.same(value, sent[name])
    end
    assert.equal("T\nB", sent.text)
  end)

  it("prefers what the message says over what the account does", function()
    local account = { webhook_url = HOOK.webhook_url, username = "account", unfurl_links = true, icon_emoji = ":a:" }
    local sent = payload { title = "T", account = account, options = { username = "message", unfurl_links = false } }
    assert.same({ "message", false, ":a:" }, { sent.username, sent.unfurl_links, sent.icon_emoji })
  end)

  describe("answers of a webhook", function()
    it("have succeeded only with 200 and ok", function()
      assert.same({ ok = true, status_code = 200 }, judge(HOOK, 200, "ok"))
      for _, body in ipairs { "", "OK!", "<html>ok</html>", "no_text", '{"ok":true}' } do
        assert.is_false(judge(HOOK, 200, body).ok)
      end
      assert.is_false(judge(HOOK, 500, "ok").ok)
    end)

    local words = {
      { 403, "invalid_token", "auth" }, { 404, "no_service", "auth" }, { 403, "action_prohibited", "auth" },
      { 404, "channel_not_found", "unknown_target" }, { 410, "channel_is_archived", "unknown_target" },
      { 400, "user_not_found", "unknown_target" }, { 400, "invalid_payload", "invalid" }, { 400, "no_text", "invalid" },
      { 400, "too_many_attachments", "too_large" }, { 500, "rollup_error", "unavailable" }, { 400, "never_heard_of", "rejected" },
    }
    for _, case in ipairs(words) do
      it(("%d %s are `%s`"):format(table.unpack(case)), function()
        local failed = judge(HOOK, case[1], case[2])
        assert.same({ case[3], "slack: " .. case[2], case[1] }, { failed.code, failed.error, failed.status_code })
      end)
    end

    it("honour Retry-After", function()
      local failed = judge(HOOK, 429, "rate_limited", { ["retry-after"] = "30" })
      assert.same({ "rate_limited", 30 }, { failed.code, failed.retry_after })
      assert.equal("unavailable", judge(HOOK, 503, "<html>").code)
    end)
  end)

  describe("answers of the API", function()
    it("have succeeded only with ok = true", function()
      assert.same({ ok = true, status_code = 200, provider_id = "1700000000.000200" },
        judge(BOT, 200, '{"ok":true,"channel":"C1","ts":"1700000000.000200"}'))
      for _, body in ipairs { "ok", "", "{}", '{"ok":"true"}', '{"ok":false}', "null" } do
        assert.is_false(judge(BOT, 200, body).ok)
      end
    end)

    local errors = {
      invalid_auth = "auth", not_authed = "auth", token_revoked = "auth", token_expired = "auth", missing_scope = "auth",
      account_inactive = "auth", channel_not_found = "unknown_target", not_in_channel = "unknown_target",
      is_archived = "unknown_target", ratelimited = "rate_limited", msg_too_long = "too_large",
      internal_error = "unavailable", invalid_blocks = "invalid", some_new_error = "rejected",
    }
    for name, code in pairs(errors) do
      it(name .. " are `" .. code .. "` though the status is 200", function()
        assert.equal(code, judge(BOT, 200, ('{"ok":false,"error":"%s"}'):format(name)).code)
      end)
    end

    it("honour Retry-After", function()
      local failed = judge(BOT, 429, '{"ok":false,"error":"ratelimited"}', { ["retry-after"] = "7" })
      assert.same({ "rate_limited", 7 }, { failed.code, failed.retry_after })
      assert.equal(9, judge(BOT, 429, "", { ["retry-after"] = "9" }).retry_after)
    end)

    it("print nothing strange", function()
      assert.equal("slack: a??b", judge(BOT, 200, '{"ok":false,"error":"a\\u001b\\nb"}').error)
    end)
  end)
end)
