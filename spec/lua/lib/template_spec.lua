local api = require "spec.support.script_api"
local support = require "spec.lua.lib.support"
local template = support.require "template"
local text = support.require "text"

local function compiler(source, name, env)
  return load(source, name, "t", env)
end

local function options(given)
  local all = { load = compiler, env = _G }
  for key, value in pairs(given or {}) do
    all[key] = value
  end
  return all
end

local function compile(definition, given)
  return template.compile("incident", definition, options(given))
end

local MESSAGE = {
  id = "m-1", title = "Disk full", priority = "high", metadata = { severity = "page", attempt = 3, tags = { "db", "prod" } },
  variables = { service = "payments", items = { { name = "a" }, { name = "b" } }, evil = "<b>&\"'*_`@everyone", title2 = "x\r\ny" },
}

-- The body that a definition gives; with the warnings.
local function body(definition, message, platform, given)
  local compiled = compile(definition, given)
  local made, warnings, code = template.render(compiled, message or MESSAGE, platform)
  assert(made, tostring(warnings) .. " " .. tostring(code))
  local direct, title, said = template.direct(compiled, message or MESSAGE, platform)
  if direct then
    assert.same({ made.title, made.body }, { title, said })
    assert.is_nil(warnings)
  end
  return made.body, warnings
end

local function problem(definition, message, given)
  local compiled = compile(definition, given)
  local made, told, code = template.render(compiled, message or MESSAGE)
  assert.is_nil(made)
  assert.is_false((template.direct(compiled, message or MESSAGE)))
  return told, code
end

local function refused(definition, given)
  return support.refused(compile, definition, given)
end

describe("an expression", function()
  local cases = {
    ["{{ service }}"] = "payments", ["{{service}}!"] = "payments!", ["{{ variables.service }}"] = "payments",
    ["{{ title }} {{ message.title }}"] = "Disk full Disk full", ["{{ metadata.severity }}"] = "page",
    ["{{ metadata.attempt + 1 }}"] = "4", ["{{ items[2].name }}"] = "b", ["{{ metadata[\"severity\"] }}"] = "page",
    ["{{ 0.5 }} {{ 3.0 }} {{ true }}"] = "0.5 3 true", ["{{ metadata.tags }}"] = "db, prod", ["{{ items[1] }}"] = '{"name":"a"}',
    ["{{ '}}' }} {{ {1, 2, {3}}[2] }}"] = false, ["{{ '}}' }}"] = "}}", ["{{ ({ a = { b = 7 }}).a.b }}"] = "7",
    ["{{ service -- the name }}"] = "payments", ["{{ upper(service) }}"] = "PAYMENTS", ["{{ lower('A') }}{{ trim(' x ') }}"] = "ax",
    ["{{ default(metadata.team.name, 'nobody') }}"] = "nobody", ["{{ join(metadata.tags, '+') }}"] = "db+prod",
    ["{{ truncate('notification', 4) }}"] = "not…", ["{{ json(metadata.tags) }}"] = '["db","prod"]',
    ["{{ date('!%Y-%m-%d', 86400.5) }}"] = "1970-01-02", ["{{ #items }}"] = "2", ["{{ service == 'payments' and 'yes' or 'no' }}"] = "yes",
    ["{{ string.format('%03d', metadata.attempt) }}"] = "003", ["{{ variables['service']:upper() }}"] = "PAYMENTS",
    ["a { b } {{ '{{' }} %} #}"] = "a { b } {{ %} #}",
  }
  for source, expected in pairs(cases) do
    it("gives what it says: " .. source, function()
      if expected then
        local made, warnings = body(source)
        assert.equal(expected, made)
        assert.is_nil(warnings)
      else
        refused(source)
      end
    end)
  end

  it("prefers a variable to a field, and code to both", function()
    local message = { title = "field", variables = { title = "variable", upper = "x", ipairs = "y", string = "z", team = "t" } }
    assert.equal("variable field", body("{{ title }} {{ message.title }}", message))
    assert.equal("A x", body("{{ upper('a') }} {{ variables.upper }}", message))
    assert.equal("1", body("{% for i in ipairs({ 1 }) do %}{{ i }}{% end %}", message))
    assert.equal("t", body("{{ team }}", message, nil, { env = { team = "rules" } }))
    assert.equal("rules", body("{{ team }}", {}, nil, { env = { team = "rules" } }))
  end)

  it("that is missing is its default, else nothing and a warning", function()
    local made, warnings = body({ title = "{{ nope }}", body = "a{{ x.y.z }}b\n{{ upper(team) }}{{ service }}\n{{ who.name }}{{ metadata.z }}",
      defaults = { team = "ops", who = { name = "joe" }, ["metadata.z"] = 5 } })
    assert.equal("ab\nOPSpayments\njoe5", made)
    assert.same({ "template 'incident', title line 1: there is no 'nope'",
                  "template 'incident', body line 1: there is no 'x.y.z'" }, warnings)
    made, warnings = body("{% for _, item in ipairs(items) do %}{{ item.z }}{% end %}{{ lower(nope) }}")
    assert.equal("", made)
    assert.same({ "template 'incident', body line 1: {{ item.z }} has no value",
                  "template 'incident', body line 1: {{ lower(nope) }} has no value" }, warnings)
    made, warnings = body("{{ variables.no }}{{ service.deep }}{{ metadata.tags[9] }}{{ priority }}", {})
    assert.equal("normal", made)
    assert.equal(3, #warnings)
  end)

  it("that fails tells the template, the line and itself", function()
    assert.same({ "template 'incident', body line 2: attempt to perform arithmetic on a nil value in {{ 1 + nil }}", "script" },
      { problem "a\n{{ 1 + nil }}" })
    assert.matches("^template 'incident', body line 3: attempt to call a nil value %(global 'nope'%) in {%% nope%(%) %%}$",
      (problem "{{ service }}\n\n{% nope() %}"))
    assert.matches("body line 2: .*in {{ upper%(print%) }}$", (problem "\n{{ upper(print) }}"))
    assert.matches("'print' is a function: call it", (problem "{{ print }}"), 1, false)
    assert.same({ "template 'incident': over", "script_limit" },
      { problem("{{ slow() }}", {}, { env = { slow = function() error({ code = "script_limit", message = "over" }) end } }) })
  end)
end)

describe("statements", function()
  it("run as Lua, and leave no empty lines", function()
    local source = "Items:\n{% for index, item in ipairs(items) do %}\n  {# one each #}\n{{ index }}. {{ item.name }}\n  {% end %}\n"
      .. "{% if metadata.deep.er then %}\nnever\n{% elseif metadata.severity == 'page' then %}\npage\n{% else %}\nelse\n{% end %}\nend"
    assert.equal("Items:\n1. a\n2. b\npage\nend", body(source))
    assert.equal("a  b", body("a {% local x = 1 %} b"))
    assert.equal("x\n", body("{# a\nb #}\nx\n{% local y %}"))
    assert.equal("12", body("{% local t = {} t.x = 12 %}{{ t.x }}"))
    assert.equal("ab", body("a{{- ' ' .. 'b' -}}  \n {{- '' }}", {}):gsub(" ", ""))
    assert.equal("a|b", body("a  \n{%- local x = '|' -%}\n {{ x }}{#- c -#} b"))
    assert.equal("a", body("a{% return %}b"))
  end)

  it("are refused where their blocks do not fit", function()
    assert.equal("template 'incident', body line 2: {% if x then %} is never closed: {% end %} is missing", refused "a\n{% if x then %}\nb")
    assert.equal("template 'incident', body line 2: there is nothing open that 'end' could close", refused "a\n{% end %}{% do %}")
    assert.matches("^template 'incident', body line 3: unexpected symbol near 'then'$", refused "a\n\n{% if then %}{% end %}")
    assert.matches("^rules/a.lua:7: template 'incident', body line 1: .* in {{ x y }}$", refused("{{ x y }}", { file = "rules/a.lua:7" }))
    assert.matches("line 2: {{ is never closed", refused "a\n{{ service ", 1, true)
    assert.matches("line 1: {%% is never closed", refused "{% 'a %}")
    assert.matches("nothing between {{", refused "{{ }}", 1, true)
    assert.matches("the name '__put' is not free", refused "{{ __put }}", 1, true)
  end)

  it("cannot make a text without end", function()
    assert.same({ "template 'incident': the text is longer than 1000 bytes: a loop that never ends, or too much put in", "script" },
      { problem("{% while true do %}aaa{% end %}", {}, { most = 1000 }) })
    assert.matches("longer than 10 bytes", (problem("{{ title }}{{ title }}", nil, { most = 10 })))
  end)
end)

describe("an include", function()
  local function find(name)
    return ({ foot = "-- {{ service }}\n{% for i = 1, 2 do %}{{ i }}{% end %}", a = "{% include 'b' %}", b = "{% include \"a\" %}",
              md = { body = "x", format = "markdown" }, bad = "\n{{ 1 + nil }}", title = { title = "t" },
              fan = { body = "plain", slack = { body = "slack's" } } })[name]
  end

  it("puts another template's body in its place", function()
    assert.equal("Hi\n-- payments\n12\n!", body("Hi\n{% include \"foot\" %}\n!", nil, nil, { find = find }))
    assert.equal("slack's", body({ body = "x", slack = { body = "{% include 'fan' %}" } }, nil, "slack", { find = find }))
    assert.equal("template 'bad', body line 2: attempt to perform arithmetic on a nil value in {{ 1 + nil }}",
      (problem("{% include 'bad' %}", nil, { find = find })))
  end)

  it("is refused when it is not there, goes round or is of another format", function()
    local cases = {
      ["x\n{% include 'no' %}"] = "body line 2: there is no template 'no' to include", ["{% include 'a' %}"] = "'a' includes itself",
      ["{% include 'md' %}"] = "the template 'md' is written in markdown, this one in text",
      ["{% include 'title' %}"] = "has no body to include", ["{% include foot %}"] = "include takes one name in quotes",
    }
    for source, expected in pairs(cases) do
      assert.matches(expected, refused(source, { find = find }), 1, true)
    end
    local function endless(name) return ("{%% include '%d' %%}{%% include '%d' %%}"):format(tonumber(name) + 1, tonumber(name) + 1) end
    assert.matches("more than 16 templates", refused("{% include '1' %}", { find = endless }), 1, true)
    local function fan(name) return tonumber(name) < 15 and endless(name) or ("x{{ 1 }}"):rep(10) end
    assert.matches("more than 20000 pieces", refused("{% include '1' %}", { find = fan }), 1, true)
  end)
end)

describe("a definition", function()
  it("has variants for platforms, which replace what they say", function()
    local definition = { title = "T", body = "B {{ evil }}", slack = { title = "S" }, email = { format = "html", body = "<i>{{ evil }}</i>" } }
    local compiled = compile(definition, { platforms = { slack = true, email = true } })
    assert.same({ title = "T", body = "B " .. MESSAGE.variables.evil, format = "text" }, (template.render(compiled, MESSAGE)))
    assert.same({ title = "S", body = "B " .. MESSAGE.variables.evil, format = "text" }, (template.render(compiled, MESSAGE, "slack")))
    assert.same({ title = "T", body = "<i>&lt;b&gt;&amp;&quot;&#39;*_`@everyone</i>", format = "html" },
      (template.render(compiled, MESSAGE, "email")))
    assert.same({ title = "a b x y", format = "text" }, (template.render(compile { title = "a\nb {{ title2 }}" }, MESSAGE)))
  end)

  it("is refused with the field and the nearest known", function()
    local given = { platforms = { slack = true, email = true } }
    local cases = {
      [{ boddy = "x" }] = "template 'incident': unknown field 'boddy' (did you mean 'body'?)",
      [{ slak = { body = "x" } }] = "unknown field 'slak' (did you mean 'slack'?)", [{ slack = "x" }] = "unknown field 'slack'",
      [{ slack = { bodi = "x" } }] = "template 'incident', slack: unknown field 'bodi' (did you mean 'body'?)",
      [{ body = 5 }] = "body must be a string, not a number", [{ body = "x", format = "md" }] = "format: must be text, markdown or html",
      [{ body = "x", email = { format = "html" } }] = "email.format: is given without a body",
      [{ body = "x", defaults = "y" }] = "defaults must be a table", [5] = "must be a string or a table, not a number",
    }
    for definition, expected in pairs(cases) do
      assert.matches(expected, refused(definition, given), 1, true)
    end
    assert.matches("its name must be a string", support.refused(template.compile, "a\nb", "x", options()), 1, true)
  end)

  it("is read from files, whose lines errors name", function()
    local definitions = template.gather {
      { file = "templates/incident.md", text = "Subject: [{{ metadata.severity }}] {{ title }}\r\n\r\n**{{ service }}**\r\n" },
      { file = "templates/incident.email.html", text = "<p>{{ service }}</p>\n" },
      { file = "templates/other.slack.txt", text = "Subject: only" },
    }
    local compiled = compile(definitions.incident)
    assert.same({ title = "[page] Disk full", body = "**payments**", format = "markdown" }, (template.render(compiled, MESSAGE)))
    assert.same({ title = "[page] Disk full", body = "<p>payments</p>", format = "html" }, (template.render(compiled, MESSAGE, "email")))
    assert.same({ title = "only", format = "text" }, (template.render(compile(definitions.other), MESSAGE, "slack")))

    local function gathered(source)
      return template.gather({ { file = "templates/incident.md", text = source } }).incident
    end
    assert.matches("^templates/incident.md:4: .* in {{ x y }}$", refused(gathered "Subject: a\n\nb\n{{ x y }}", { file = "r.lua:1" }))
    assert.equal("template 'incident', templates/incident.md:3: attempt to perform arithmetic on a nil value in {{ 1 + nil }}",
      (problem(gathered "Subject: a\nb\n{{ 1 + nil }}")))
    assert.matches("^templates/a.rst: a template's file is called", support.refused(template.read, "templates/a.rst", ""))
    assert.equal("templates/a.txt: the same template is in templates/a.md: keep one of them",
      support.refused(template.gather, { { file = "templates/a.md", text = "x" }, { file = "templates/a.txt", text = "x" } }))
  end)

  it("tells which variables it reads", function()
    local names = {}
    for index, each in ipairs(template.names(compile { title = "{{ title }}", slack = { body = "{{ title }}" },
      body = "{{ metadata.a['b'] }}\n{% for i, item in ipairs(list) do %}{{ item.x }}{{ upper(who) }}{% end %}" })) do
      names[index] = each.part .. ":" .. each.line .. " " .. each.name
    end
    assert.same({ "title:1 title", "body:1 metadata.a['b']", "body:2 list", "body:2 who", "slack.body:1 title" }, names)
  end)
end)

describe("a value in HTML", function()
  local function html(source, value)
    return body({ format = "html", body = source }, { variables = { x = value, b = true } })
  end

  it("is text where text stands, in attributes too", function()
    assert.equal("<p title=\"&quot;&gt;\">&lt;i&gt;</p>", body({ format = "html", body = "<p title=\"{{ q }}\">{{ x }}</p>" },
      { variables = { x = "<i>", q = '">' } }))
    assert.equal("<i><b>", html("<i>{{{ x }}}", "<b>"))
    assert.equal("<!-- --&gt; -->", html("<!-- {{ x }} -->", "-->"))
  end)

  it("is an address where one stands, or nothing", function()
    assert.equal("<a href=\"https://x.example/?a=1&amp;b=%22\">", html("<a href=\"{{ x }}\">", "https://x.example/?a=1&b=\""))
    assert.equal("<a href='https://x.example/?q=a%26b%20%3C'>", html("<a href='https://x.example/?q={{ x }}'>", "a&b <"))
    assert.equal("<a href=\"https://x.example/a%3Fb/c\">", html("<a href=\"https://x.example/{{ x }}\">", "a?b/c"))
    for _, evil in ipairs { "javascript:alert(1)", " JaVaScRiPt:x", "java\nscript:x", "\1javascript:x", "data:text/html,x", "vbscript:x" } do
      local made, warnings = html("<a href=\"{{ x }}\">", evil)
      assert.equal("<a href=\"#\">", made)
      assert.matches("no address that may be linked to", warnings[1])
    end
    assert.equal("<a href=\"javascript%3Ax\">", html("<a href=\"{{ '' }}{{ x }}\">", "javascript:x"))
    assert.equal("<a style=\"color: \">", (html("<a style=\"color: {{ x }}\">", "red;background:url(x)")))
    assert.equal("<a style=\"color: #f00\">", (html("<a style=\"color: {{ x }}\">", "#f00")))
  end)

  it("is refused where none is safe", function()
    for _, source in ipairs { "<a href={{ x }}>", "<a {{ x }}>", "<script>{{ x }}</script>", "<a onclick=\"{{ x }}\">", "<img srcset='{{ x }}'>",
                              "<a=\"{{ x }}\">", "<a title=\"t\" =\"{{ x }}\">" } do
      assert.matches("^template 'incident', body line 1: {{ x }}: ", refused { format = "html", body = source })
    end
    assert.equal("<script>1</script>y", html("<script>{{{ x }}}</script>{{ 'y' }}", 1))
  end)

  it("never becomes an element, whatever it is", function()
    local random = 7
    local pieces = { "<", ">", "\"", "'", "&", "b", " ", "=", "/", "<script>", "-->", "javascript:", "\n", "`", "on" }
    for _ = 1, 3000 do
      local value = ""
      for _ = 1, 8 do
        random = (random * 1103515245 + 12345) % 2147483648
        value = value .. pieces[random // 65536 % #pieces + 1]
      end
      local made = html("<p title=\"{{ x }}\">{{ x }}</p><a href='{{ x }}'>y</a>", value)
      local _, tags = made:gsub("<", "")
      assert.equal(4, tags)
      local attribute = made:match("^<p title=\"([^\"]*)\">")
      assert(attribute, made)
      assert.is_nil(made:match("href='([^']*)'>y</a>$"):find("^%s*javascript:"))
    end
  end)
end)

describe("a value in markdown", function()
  local to_html = api.require("markdown").to_html

  local function markdown(source, value)
    return body({ format = "markdown", body = source }, { variables = { x = value } })
  end

  -- What a person reads of it after CommonMark's reference renderer.
  local function read(source)
    return (text.strip_html(to_html(source)))
  end

  it("reads as it was", function()
    local random, values = 3, {}
    local pieces = { "*", "_", "`", "[", "](x)", "<b>", "&amp;", "~", "|", "\\", "!", "#", "-", "+", "1.", "a", "b", ">", "=", "](", "://", "." }
    for index = 1, 60 do
      local words = {}
      for at = 1, 6 do
        random = (random * 1103515245 + 12345) % 2147483648
        words[at] = pieces[random // 65536 % #pieces + 1] .. (random % 3 == 0 and " " or "")
      end
      values[index] = (table.concat(words):gsub("%s+", " "):match("^%s*(.-)%s*$"))
    end
    -- One document for all: a process a value would take a minute.
    local sources, expected = {}, {}
    for _, value in ipairs(values) do
      for _, frame in ipairs { "%s", "a %s b", "- %s", "**c** %s" } do
        sources[#sources + 1] = markdown(frame:format("{{ x }}"), value)
        expected[#expected + 1] = (frame:gsub("%*", ""):gsub("%%s", function() return value end))
      end
    end
    local shown = read(table.concat(sources, "\n\n<!-- -->\n\n"):gsub("<!%-%- %-%->", "END."))
    local index = 0
    for piece in (shown .. "\n\nEND."):gmatch("(.-)\n\n?END%.\n?\n?") do
      index = index + 1
      assert.equal((expected[index]:gsub("%s+", " ")), (piece:gsub("%s+", " ")), sources[index])
    end
    assert.equal(#values * 4, index)
  end)

  it("begins no block of its own", function()
    assert.equal("x\n\\# y\n1\\. z\n\\- w\n\\=\n\u{A0}\u{A0}\u{A0}\u{A0}code", markdown("{{ x }}", "x\n# y\n1. z\n- w\n=\n    code"))
    assert.equal("\\- a", markdown("{{ x }}", "- a"))
    assert.equal("on - a", markdown("on {{ x }}", "- a"))
    assert.equal("\\- a", markdown("{% if y then %}on {% end %}{{ x }}", "- a"))
    assert.equal("on - a", markdown("{% if x then %}\non {{ x }}{% end %}", "- a"))
  end)

  it("is an address, or code, where one stands", function()
    assert.equal("[a](https://x.example/a_b?c=%28d%29)", markdown("[a]({{ x }})", "https://x.example/a_b?c=(d)"))
    assert.equal("<https://x.example/a%20b>", markdown("<{{ x }}>", "https://x.example/a b"))
    assert.equal("[a](https://x.example/?q=%26%29)", markdown("[a](https://x.example/?q={{ x }})", "&)"))
    assert.equal("[a](#)", (markdown("[a]({{ x }})", "javascript:alert(1)")))
    assert.equal("`a_b'c*`", markdown("`{{ x }}`", "a_b`c*"))
    assert.equal("```\na_b''' *\n```\n\\_", markdown("```\n{{ x }}\n```\n{{ '_' }}", "a_b``` *"))
  end)

  it("calls nobody", function()
    assert.equal("@\u{200B}everyone and joe@all.example", markdown("{{ x }}", "@everyone and joe@all.example"))
    assert.equal("\\<!channel\\>", markdown("{{ x }}", "<!channel>"))
  end)

  it("goes through Slack's and Feishu's adapters as what it was", function()
    local slack, feishu = api.adapter "slack", api.adapter "feishu"
    local json = api.require "json"
    local value = "<!channel> *b* `c` & <at user_id=\"all\"></at>"
    local made = template.render(compile { format = "markdown", body = "**S** {{ x }}" }, { variables = { x = value } })
    local request = api.request(slack, { body = made.body, format = made.format,
      account = { webhook_url = "https://hooks.slack.com/services/a/b/c" } })
    assert.equal("*S* &lt;!channel&gt; *b* `c` &amp; &lt;at user_id=\"all\"&gt;&lt;/at&gt;", json.decode(request.body).attachments[1].text)
    made = template.render(compile { body = "{{ x }}" }, { variables = { x = value } })
    request = api.request(feishu, { body = made.body, format = made.format, account = { token = "t" } })
    assert.is_nil(request.body:find("<at", 1, true))
  end)
end)

describe("a platform's own markup", function()
  it("is escaped by the sink that its adapter names", function()
    local given = { sinks = { telegram = { markdown = "telegram" }, chat = { text = "chat", title = string.upper }, slack = { text = "slack" },
                              feishu = { text = "feishu" } } }
    local compiled = compile({ title = "t {{ x }}", body = "*b* {{ x }}", format = "markdown" }, given)
    local message = { variables = { x = "a.b!_*" } }
    assert.equal("*b* a\\.b\\!\\_\\*", template.render(compiled, message, "telegram").body)
    assert.equal("*b* a.b!\\_\\*", template.render(compiled, message).body)
    assert.equal("t A.B!_*", template.render(compiled, message, "chat").title)
    compiled = compile("{{ x }}", given)
    assert.equal("@\u{200B}all", template.render(compiled, { variables = { x = "@all" } }, "chat").body)
    assert.equal("&lt;!here&gt;&amp;", template.render(compiled, { variables = { x = "<!here>&" } }, "slack").body)
    assert.equal("<\u{200B}at id=all>", template.render(compiled, { variables = { x = "<at id=all>" } }, "feishu").body)
    assert.equal("a%20%26", template.escape.url "a &")
  end)
end)

describe("a template that only says and compares", function()
  local function direct(definition, message, given, platform)
    return template.direct(compile(definition, given), message or MESSAGE, platform)
  end

  it("is made in one go, and says what it says in steps", function()
    local source = "{% if metadata.load > 1 and not quiet then %}load {{ metadata.load }}{% elseif x == \"y\" then %}y{% else %}-{% end %}!"
    local cases = {
      [{ metadata = { load = 7 } }] = "load 7!", [{ metadata = { load = 7 }, variables = { quiet = true, x = "y" } }] = "y!",
      [{ metadata = { load = 0 } }] = "-!", [{ metadata = { load = 7.0 } }] = "load 7!", [{ metadata = { load = 1.5 } }] = "load 1.5!",
    }
    for message, expected in pairs(cases) do
      assert.same({ true, nil, expected, "text" }, { direct(source, message) })
      assert.equal(expected, body(source, message))
    end
    local definition = { body = "{{ metadata.tags }} {{ metadata.tags[2] }} {{ message.id }} {{ variables.service }}" }
    definition.title = "[{{ metadata.severity }}] {{ title }}"
    assert.same({ true, "[page] Disk full", "db, prod prod m-1 payments", "text" }, { direct(definition) })
    assert.same({ true, "T", nil, "text" }, { direct { title = "T" } })
    assert.same({ true, nil, "", "text" }, { direct "" })
    assert.same({ true, nil, "ab", "text" }, { direct("{% if metadata.a.b.c == nil then %}a{% if title then %}b{% end %}{% end %}") })
    assert.same({ true, nil, "true 0.1", "text" }, { direct("{{ a }} {{ b }}", { variables = { a = true, b = 0.1 } }) })
    assert.same({ true, nil, "&lt;b&gt; <b>", "html" },
      { direct({ format = "html", body = "{{ x }} {{{ x }}}" }, { variables = { x = "<b>" } }) })
    assert.same({ true, "T", "slack", "text" }, { direct({ title = "T", body = "B", slack = { body = "slack" } }, nil, nil, "slack") })
  end)

  it("is made in steps where something is missing, too long, of two lines or no text", function()
    for _, each in ipairs {
      { "{{ nope }}" }, { "{{ title.upper }}" }, { "{{ metadata.severity.x }}" }, { { title = "{{ title2 }}" } },
      { "{{ title }}", nil, { most = 5 } }, { { title = "{{ title }}" }, nil, { most = 5 } }, { "{{ f }}", { variables = { f = print } } },
      { "{% if title > 1 then %}x{% end %}" }, { { format = "html", body = "<a href='{{ x }}'>" }, { variables = { x = "javascript:x" } } },
      { { body = "{{ name }}", defaults = { name = "nobody" } } },
    } do
      assert.is_false((direct(each[1], each[2], each[3])))
    end
  end)

  it("is made in steps when a name that it asks for may mean something of the rules", function()
    local asks = "{% if limit == 3 then %}x{% end %}"
    local message = { variables = { limit = 3 } }
    local env = {}
    local compiled = compile(asks, { env = env })
    assert.is_true((template.direct(compiled, message)))
    env.limit = 3
    assert.is_false((template.direct(compiled, message)))
    env.limit = nil
    setmetatable(env, { __index = error })
    assert.is_false((template.direct(compiled, message)))
    assert.is_false((direct({ body = asks, defaults = { limit = 1 } }, message)))
    assert.is_false((direct("{% if upper then %}x{% end %}", { variables = { upper = 1 } })))
    assert.is_true((direct("{{ limit }}", message, { env = { limit = print } })))
  end)

  it("is none when it calls, sets, repeats or joins", function()
    for _, code in ipairs { "if f() then", "if f 'x' then", "if f{} then", "if a:b() then", "if a .. b then", "if (a) then", "if #a > 1 then",
                            "if a + 1 > 2 then", "for _ in a do", "while a do", "if a then b = 1", "if function() end then" } do
      local ok, compiled = pcall(compile, ("{%% %s %%}x{%% end %%}"):format(code))
      assert.is_false(ok and template.direct(compiled, {}), code)
    end
  end)

  it("may be as large as it likes", function()
    local names, message = {}, { variables = {} }
    for index = 1, 300 do
      names[index], message.variables["n" .. index] = ("{{ n%d }}"):format(index), index
      if index % 10 == 0 then
        assert.matches("12345678910", body(table.concat(names), message), 1, true)
        local conditions = table.concat(names):gsub("{{ (n%d+) }}", "{%% if %1 then %%}{{ %1 }}{%% end %%}")
        assert.matches("12345678910", body(conditions, message), 1, true)
      end
    end
  end)
end)

describe("the compiler", function()
  it("takes any text without breaking", function()
    local random = 99
    local pieces = { "{{", "}}", "{{{", "}}}", "{%", "%}", "{#", "#}", "-", " ", "\n", "x", "a.b", "end", "if x then", "for i=1,2 do", "\"", "'",
                     "[[", "]]", "--", "(", ")", "<a href=\"", ">", "```", "include 'a'", "=", "local y", "function", "return" }
    local good = 0
    for _ = 1, 20000 do
      local source = ""
      for _ = 1, 10 do
        random = (random * 1103515245 + 12345) % 2147483648
        source = source .. pieces[random // 65536 % #pieces + 1]
      end
      local format = ({ "text", "markdown", "html" })[random % 3 + 1]
      local ok, made = pcall(compile, { body = source, format = format }, { find = function() return "a" end, most = 10000 })
      if ok then
        good = good + 1
        local direct, _, said = template.direct(made, MESSAGE)
        local rendered, told, code = template.render(made, MESSAGE)
        assert(not direct or said == rendered.body)
        assert(rendered or type(told) == "string" and code == "script")
      else
        assert(type(made) == "table" and made.code == "config", tostring(made))
      end
    end
    assert.is_true(good > 1000)
  end)
end)
