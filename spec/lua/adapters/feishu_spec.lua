local api = require "spec.support.script_api"
local json = api.require "json"

local ALL, JOE = { type = "group", value = "@all" }, { type = "user", value = "ou_joe-1" }

for name, host in pairs { feishu = "https://open.feishu.cn", lark = "https://open.larksuite.com" } do
  local adapter = api.adapter(name)
  local locale = name == "feishu" and "zh_cn" or "en_us"

  local function request(fields)
    fields.account = fields.account or { token = "t-1" }
    return api.request(adapter, fields)
  end

  local function payload(fields)
    local built, message, code = request(fields)
    if not built then
      return nil, message, code
    end
    return json.decode(built.body)
  end

  local function judge(status, body, headers)
    return adapter.response({ status = status, headers = headers or {}, body = body }, api.delivery(adapter, { account = { token = "t" } }))
  end

  describe(name, function()
    it("posts JSON to the bot's address", function()
      local built = request { title = "T", body = "B" }
      assert.equal("POST", built.method)
      assert.equal(host .. "/open-apis/bot/v2/hook/t-1", built.url)
      assert.equal("application/json; charset=utf-8", built.headers["Content-Type"])
      assert.is_true(built.verify)
      assert.equal("https://x.example/h", request { body = "B", account = { webhook_url = "https://x.example/h" } }.url)
    end)

    describe("target URLs", function()
      it("hold the token, the secret and who is mentioned", function()
        local account, recipients = api.parse(adapter, name .. "://s%2Fecret@t-1/@all/@ou_joe?keywords=a,b&style=post")
        assert.same({ token = "t-1", secret = "s/ecret", keywords = { "a", "b" }, style = "post" }, account)
        assert.same({ { type = "user", value = "@all" }, { type = "user", value = "@ou_joe" } }, recipients)
        assert(adapter.check(api.account(adapter, account)))
      end)

      it("may be the bot's own address", function()
        local account = assert(api.parse(adapter, host .. "/open-apis/bot/v2/hook/abc"))
        assert.same({ webhook_url = host .. "/open-apis/bot/v2/hook/abc" }, account)
      end)

      it("are refused when they name nothing or something unknown", function()
        assert.is_nil(api.parse(adapter, name .. "://"))
        assert.is_nil(api.parse(adapter, name .. "://t?keyword=a"))
      end)
    end)

    it("checks the account", function()
      local function check(options) return adapter.check(api.account(adapter, options)) end
      assert.is_nil(check {})
      assert.is_nil(check { token = "a/../b" })
      assert.is_nil(check { webhook_url = "ftp://x.example/" })
      assert.is_nil(check { token = "a", base_url = "nonsense" })
      assert(check { token = "a" })
    end)

    describe("a text", function()
      it("is title and body", function()
        assert.same({ msg_type = "text", content = { text = "T\nB" } }, payload { title = "T", body = "B" })
        assert.same({ msg_type = "text", content = { text = "B" } }, payload { body = "B" })
      end)

      it("mentions people and everyone", function()
        local everyone = name == "feishu" and "所有人" or "Everyone"
        assert.equal(('T\n<at user_id="all">%s</at> <at user_id="ou_joe-1"></at>'):format(everyone),
          payload { title = "T", recipients = { ALL, JOE, JOE } }.content.text)
      end)

      it("leaves a mention in people's own words inert", function()
        local text = payload { body = '<at user_id="all">x</at> <AT user_id=1> <attic> a < at' }.content.text
        assert.equal('<\u{200B}at user_id="all">x<\u{200B}/at> <\u{200B}AT user_id=1> <attic> a < at', text)
      end)
    end)

    describe("a post", function()
      it("keeps links and drops the marks", function()
        assert.same({ msg_type = "post", content = { post = { [locale] = { title = "T", content = {
          { { tag = "text", text = "Head" } },
          { { tag = "text", text = "see " }, { tag = "a", text = "here", href = "https://x.example/?a=1" }, { tag = "text", text = " now" } },
          { { tag = "text", text = "" } },
          { { tag = "text", text = "<at user_id=\"all\">" } },
        } } } } }, payload { title = "T", format = "markdown", account = { token = "t", style = "post" },
          body = "## Head\nsee [here](https://x.example/?a=1) **now**\n\n<at user_id=\"all\">" })
      end)

      it("mentions people and everyone (fault 14)", function()
        local content = payload { body = "B", options = { style = "post" }, recipients = { ALL, JOE } }.content.post[locale].content
        assert.same({ { tag = "at", user_id = "all" }, { tag = "at", user_id = "ou_joe-1" } }, content[2])
      end)

      it("of one's own keeps all locales and gets mention and keyword", function()
        local own = { zh_cn = { title = "题", content = { { { tag = "text", text = "x" } } } },
                      en_us = { content = { { { tag = "text", text = "y" } } } } }
        local post = payload { title = "T", options = { post = own }, recipients = { ALL },
                               account = { token = "t", keywords = { "kw" } } }.content.post
        assert.same({ title = "kw 题", content = { { { tag = "text", text = "x" } }, { { tag = "at", user_id = "all" } } } }, post.zh_cn)
        assert.equal("kw", post.en_us.title)
        assert.equal("题", own.zh_cn.title)
        assert.equal(1, #own.zh_cn.content)
        local _, _, code = payload { options = { post = { zh_cn = "x" } } }
        assert.equal("invalid", code)
      end)
    end)

    describe("a card", function()
      it("stands under the top-level key `card` (fault 14)", function()
        local sent = payload { title = "T", body = "**B**", format = "markdown" }
        assert.same({ msg_type = "interactive", card = {
          config = { wide_screen_mode = true },
          header = { title = { tag = "plain_text", content = "T" }, template = "blue" },
          elements = { { tag = "markdown", content = "**B**" } },
        } }, sent)
        local own = { schema = "2.0", anything = { 1 }, body = { elements = { { tag = "hr" } } } }
        assert.same({ msg_type = "interactive", card = own }, payload { title = "T", options = { card = own } })
      end)

      it("has the colour of its priority", function()
        for priority, colour in pairs { urgent = "red", high = "orange", normal = "blue", low = "grey" } do
          local sent = payload { title = "T", body = "B", format = "markdown", message = { priority = priority } }
          assert.equal(colour, sent.card.header.template)
        end
      end)

      it("shows markdown that Feishu knows, and no tag of a stranger", function()
        local body = "# Head **x** #\n<at id=all></at> ![cat](https://x.example/c.png) <https://y.example>\n"
          .. "```sh\n# comment <font>\n```\n> quote"
        assert.equal("**Head x**\n&#60;at id=all>&#60;/at> [cat](https://x.example/c.png) [https://y.example](https://y.example)\n"
          .. "```sh\n# comment &#60;font>\n```\n> quote",
          payload { body = body, format = "markdown" }.card.elements[1].content)
      end)

      it("of plain text is plain text", function()
        assert.same({ tag = "div", text = { tag = "plain_text", content = "**B** <at id=all>" } },
          payload { body = "**B** <at id=all>", options = { style = "card" } }.card.elements[1])
      end)

      it("mentions people and everyone (fault 14)", function()
        local mention = { tag = "markdown", content = "<at id=all></at> <at id=ou_joe-1></at>" }
        assert.same(mention, payload { body = "B", format = "markdown", recipients = { ALL, JOE } }.card.elements[2])
        local own = { header = { title = { tag = "plain_text", content = "x" } }, elements = { { tag = "hr" } } }
        assert.same({ { tag = "hr" }, mention },
          payload { options = { card = own, mentions = { "all" } }, recipients = { ALL, JOE } }.card.elements)
        assert.equal(1, #own.elements)
        local second = { schema = "2.0", body = { elements = { { tag = "hr" } } } }
        assert.same({ { tag = "hr" }, mention }, payload { options = { card = second }, recipients = { ALL, JOE } }.card.body.elements)
        assert.is_nil(second.elements)
        assert.equal(1, #second.body.elements)
      end)

      it("that cannot carry a mention is refused rather than sent without", function()
        local _, message, code = payload { options = { card = { type = "template", data = {} } }, recipients = { ALL } }
        assert.equal("invalid", code)
        assert.matches("^card:", message)
      end)
    end)

    describe("mentions", function()
      it("cannot break out of their tag", function()
        for _, id in ipairs { '"></at>', "a b", "", "all>", "ou\n" } do
          local _, _, code = payload { body = "B", options = { mentions = { id } } }
          assert.equal("invalid", code)
        end
      end)

      it("of another group are refused", function()
        local _, _, code = payload { body = "B", recipients = { { type = "group", value = "ops" } } }
        assert.equal("unknown_target", code)
      end)
    end)

    describe("keywords", function()
      local account = { token = "t", keywords = { "告警", "alert" } }

      it("are added when none is there", function()
        assert.equal("告警 T\nB", payload { title = "T", body = "B", account = account }.content.text)
        assert.equal("告警 T", payload { title = "T", body = "B", format = "markdown", account = account }.card.header.title.content)
        assert.equal("告警 B", payload { body = "B", format = "markdown", account = account }.card.elements[1].content)
        assert.equal("告警", payload { body = "B", options = { style = "post" }, account = account }.content.post[locale].title)
      end)

      it("are left alone when one is there", function()
        assert.equal("T\nan alert", payload { title = "T", body = "an alert", account = account }.content.text)
        assert.equal("告警: T", payload { title = "告警: T", body = "B", format = "markdown", account = account }.card.header.title.content)
      end)

      it("are added to one's own card", function()
        local own = { header = { title = { tag = "plain_text", content = "x" } }, elements = {} }
        assert.equal("告警 x", payload { options = { card = own }, account = account }.card.header.title.content)
        assert.equal("x", own.header.title.content)
        assert.equal("告警", payload { options = { card = { elements = { { tag = "hr" } } } }, account = account }.card.elements[1].content)
        own = { elements = { { tag = "div", text = { tag = "plain_text", content = "an alert" } } } }
        assert.same(own, payload { options = { card = own }, account = account }.card)
      end)
    end)

    it("signs as openssl does", function()
      -- printf '' | openssl dgst -sha256 -mac HMAC -macopt hexkey:$(printf '1700000000\ndemo-secret' | xxd -p) -binary | base64
      local sent = payload { title = "T", now = 1700000000.9, account = { token = "t", secret = "demo-secret" } }
      assert.equal("1700000000", sent.timestamp)
      assert.equal("mYHw2R2SOm8Rw/sne3lQdmz4sOfntKR+1P/8RKKTwmA=", sent.sign)
      assert.is_nil(payload { title = "T" }.sign)
    end)

    it("refuses more than 20 KB and cuts nothing (fault 14)", function()
      local body = ("飞"):rep(6600)
      assert.equal("T\n" .. body, payload { title = "T", body = body }.content.text)
      local _, message, code = payload { body = ("飞"):rep(7000) }
      assert.equal("too_large", code)
      assert.matches("20480", message)
      _, _, code = payload { options = { card = { elements = { { tag = "markdown", content = ("x"):rep(21000) } } } } }
      assert.equal("too_large", code)
    end)

    describe("answers", function()
      it("have succeeded only when the business code is 0 (fault 14)", function()
        assert.same({ ok = true, status_code = 200 }, judge(200, '{"code":0,"msg":"success","data":{}}'))
        assert.is_true(judge(200, '{"StatusCode":0,"StatusMessage":"success"}').ok)
        for _, body in ipairs { '{"code":19024,"msg":"Key Words Not Found"}', "{}", "", "ok", "null", "[]", '{"code":"0"}' } do
          assert.is_false(judge(200, body).ok, body)
        end
        assert.is_false(judge(500, '{"code":0}').ok)
      end)

      local codes = {
        [19021] = "auth", [19024] = "rejected", [9499] = "invalid", [11232] = "rate_limited", [19001] = "auth",
        [19022] = "auth", [19002] = "invalid", [99991400] = "rate_limited", [12345] = "rejected",
      }
      for number, code in pairs(codes) do
        it(("with code %d are `%s`"):format(number, code), function()
          for _, status in ipairs { 200, 400 } do
            local failed = judge(status, ('{"code":%d,"msg":"why"}'):format(number))
            assert.same({ code, ("code %d: why"):format(number), status }, { failed.code, failed.error, failed.status_code })
          end
        end)
      end

      it("of a broken gateway go by the status", function()
        assert.equal("unavailable", judge(502, "<html>").code)
        assert.equal("unavailable", judge(503, '{"code":1,"msg":"x"}').code)
        local limited = judge(429, '{"code":11232,"msg":"slow"}', { ["retry-after"] = "3" })
        assert.same({ "rate_limited", 3 }, { limited.code, limited.retry_after })
      end)
    end)
  end)
end

describe("lark", function()
  it("is feishu with other names and nothing else", function()
    local feishu, lark = api.adapter "feishu", api.adapter "lark"
    for _, name in ipairs { "request", "response", "check", "parse", "limits", "formats", "message_options" } do
      assert.equal(feishu[name], lark[name])
    end
    assert.equal("https://open.feishu.cn/open-apis/bot/v2/hook/", feishu.options.base_url.default)
  end)
end)
