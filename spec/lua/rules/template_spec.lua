-- What templates say to the platforms, and what goes wrong in them.
local rules = require "spec.support.rules"

describe("a template", function()
  after_each(rules.finish)

  it("is the message's own, or its route's, which stands over it", function()
    local hub, sink = rules.open { ["a.lua"] = [[
      template("one", { title = "[{{ metadata.severity }}] {{ title }}", body = "one: {{ service }}" })
      template("two", "two: {{ service }}")
      route { match = { way = "route" }, to = "b", template = "two" }
      route { to = "a" }
    ]] }
    local message = { title = "t", template = "one", variables = { service = "db" }, metadata = { severity = "page" } }
    assert.equal("delivered", assert(hub:send(message, rules.LONG)).status)
    local told = rules.told(sink, "/a")[1]
    assert.same({ "[page] t", "one: db" }, { told.title, told.body })
    message.metadata.way = "route"
    hub:send(message, rules.LONG)
    told = rules.told(sink, "/b")[1]
    assert.same({ "t", "two: db" }, { told.title, told.body })
  end)

  it("needs neither title nor body in the message", function()
    local hub, sink = rules.open { ["a.lua"] = [[ template("x", { title = "T {{ n }}", body = "B" }) ]] }
    assert(hub:send({ template = "x", variables = { n = 1 }, targets = { "a" } }, rules.LONG))
    assert.equal("T 1", rules.told(sink, "/a")[1].title)
  end)

  it("says whole numbers digit by digit", function()
    local hub, sink = rules.open { ["a.lua"] = [[ template("x", "{{ a }} {{ b }} {{ c }} {{ d }} {{ e }}") ]] }
    local numbers = { a = 0, b = -1, c = 1200, d = math.maxinteger, e = math.mininteger }
    assert(hub:send({ template = "x", variables = numbers, targets = { "a" } }, rules.LONG))
    assert.equal("0 -1 1200 9223372036854775807 -9223372036854775808", rules.told(sink, "/a")[1].body)
  end)

  it("is in a file, by its name and suffix, with variants for platforms", function()
    local hub, sink = rules.open({
      ["a.lua"] = [[ route { template = "incident" } ]],
      ["templates/incident.txt"] = "Subject: Incident {{ title }}\n\n{{ service }} is down\n{% include \"foot\" %}",
      ["templates/incident.webhook.html"] = "Subject: Hook {{ title }}\n<b>{{ service }}</b>",
      ["templates/foot.txt"] = "by {{ metadata.by }}",
      ["templates/notes.org"] = "{{ not a template",
      ["templates/.incident.txt.swp"] = "{{",
    }, { platforms = { chat = { platform = "slack", webhook_url = "http://127.0.0.1:1/x" } } })
    local message = { title = "t", variables = { service = "<db>" }, metadata = { by = "me" }, targets = { "a" } }
    assert.equal("delivered", hub:send(message, rules.LONG).status)
    local told = rules.told(sink, "/a")[1]
    assert.same({ "Hook t", "<b>&lt;db&gt;</b>", "html" }, { told.title, (told.body:gsub("%s+$", "")), told.format })
    message.targets = { "slack://nowhere" }
    assert.equal(1, sink:stop().arrivals)
  end)

  it("warns of a variable that is missing: in the receipt and in the log, with template, line and name", function()
    local printed = rules.program({ ["a.lua"] = [[
      template("x", { title = "{{ title }}", body = "one\n[{{ metadata.nobody.there }}] {{ state }}",
                      defaults = { state = "down" } })
      route { to = "a", template = "x" }
    ]] }, nil, [[
      local receipt = hub:send({ title = "t" }, rules.LONG)
      assert(receipt.status == "delivered", receipt.error)
      assert(#receipt.warnings == 1, #receipt.warnings)
      print(receipt.warnings[1])
      print(rules.told(sink, "/a")[1].body)
    ]])
    assert.matches("template 'x', body line 2: .*metadata%.nobody", printed)
    assert.matches("%[%] down", printed)
    assert.matches("level=warn [^\n]*template[^\n]*line 2", printed)
    assert.is_nil(printed:find("nil", 1, true))
  end)

  it("that is not there fails the message and suggests the nearest; a route's is an error of the rules", function()
    local hub = rules.open { ["a.lua"] = [[ template("incident", "x") ]] }
    local _, problem, code = hub:send({ template = "incidnet", targets = { "a" } }, rules.LONG)
    assert.equal("invalid", code)
    assert.matches("no template 'incidnet'.*'incident'", problem)
    local ok, wrong = require "notifyhub".new { rules = rules.folder { ["a.lua"] = "\nroute { to = 'a', template = 'x' }" } }
    assert.is_nil(ok)
    assert.matches("a%.lua:2: route 1: template: there is no template 'x'", wrong)
  end)

  it("that fails names itself and the line, and tells nobody", function()
    local hub, sink = rules.open { ["a.lua"] = [[
      template("x", { title = "t", body = "one\n{{ upper(n + 1) }}\n{{ uper(title) }}" })
      route { to = "a", template = "x" }
    ]] }
    local receipt, problem, code = hub:send({ title = "t", variables = { n = {} } }, rules.LONG)
    assert.equal("failed", receipt.status)
    assert.equal("script", code)
    assert.matches("template 'x', body line 2: attempt to perform arithmetic", problem)
    problem = select(2, hub:send({ title = "t", variables = { n = 1 } }, rules.LONG))
    assert.matches("template 'x', body line 3: .*uper", problem)
    assert.equal(0, sink:stop().arrivals)
  end)

  it("that is wrong is an error of the rules, with file and line", function()
    for text, pattern in pairs {
      ["one\n{{ a b }}"] = "templates/x%.html:2: ", ["one\n\n{% for i in %}"] = "templates/x%.html:3: ",
      ["{% if x then %}"] = "templates/x%.html:1: ", ["{{ open"] = "templates/x%.html:1: ",
      ["<a onclick=\"{{ x }}\">"] = "templates/x%.html:1: ", ["{% include 'none' %}"] = "templates/x%.html:1: ",
    } do
      local ok, problem, code = require "notifyhub".new { rules = rules.folder { ["templates/x.html"] = text } }
      assert.is_nil(ok, text)
      assert.equal("config", code)
      assert.matches(pattern, problem)
    end
  end)

  it("that loops is stopped by the limit, and one that says too much, too", function()
    local hub = rules.open({ ["a.lua"] = [[
      template("loop", "{% while true do %}{% end %}")
      template("much", "{% for i = 1, 2000000 do %}0123456789{% end %}")
    ]] }, { limits = { slice = 0.5 } })
    local _, problem, code = hub:send({ template = "loop", targets = { "a" } }, rules.LONG)
    assert.equal("script_limit", code, problem)
    assert.matches("loop", problem)
    _, problem, code = hub:send({ template = "much", targets = { "a" } }, rules.LONG)
    assert.is_truthy(code:find "^script", problem)
    assert.equal("delivered", hub:send({ title = "t", targets = { "a" } }, rules.LONG).status)
  end)

  it("cannot send, nor write to the rules' globals", function()
    local hub, sink = rules.open { ["a.lua"] = [[
      counter = 0
      template("send", "{% send(message, 'a') %}")
      template("write", "{% counter = 5 %}{{ counter }}")
      route { match = { way = "read" }, handle = function(message) return false, "counter " .. counter end }
    ]] }
    local _, problem = hub:send({ template = "send", targets = { "b" } }, rules.LONG)
    assert.truthy(problem)
    hub:send({ template = "write", targets = { "b" } }, rules.LONG)
    _, problem = hub:send({ title = "t", metadata = { way = "read" } }, rules.LONG)
    assert.matches("counter 0", problem)
    for _, arrival in ipairs(sink:arrivals()) do assert.equal("/b", arrival.path) end
  end)
end)
