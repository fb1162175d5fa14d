local api = require "spec.support.script_api"
local text = api.require "text"

describe("text.length and text.truncate", function()
  it("count characters, not bytes", function()
    assert.equal(0, text.length(""))
    assert.equal(5, text.length("héllo"))
    assert.equal(2, text.length("飞书"))
    assert.equal(3, text.length("a\xff\u{1F600}"))
  end)

  it("never cut inside a character (fault 14)", function()
    assert.equal("飞书通…", text.truncate("飞书通知消息", 4))
    for n = 0, 12 do
      local cut = text.truncate("a飞b书😀éx", n)
      assert(utf8.len(cut))
      assert.is_true(text.length(cut) <= n)
    end
    assert.equal("abc", text.truncate("abc", 3))
    assert.equal("飞书", text.truncate("飞书", 2))
    assert.equal("\xe9\xa3…", text.truncate("\xe9\xa3\xe9\xa3\xe9\xa3", 2))
  end)
end)

describe("text.visible", function()
  it("shows control characters instead of obeying them", function()
    assert.equal("a\\x1b[31mb\\x00\\x7f\\x9bc\n\td", text.visible("a\27[31mb\0\127\u{9b}c\r\n\td"))
    assert.equal("飞书é", text.visible("飞书é"))
  end)
end)

describe("text.escape_html and text.escape_xml", function()
  it("leave nothing that is markup", function()
    assert.equal("&lt;a href=&quot;x&quot;&gt;&amp;&#39;", text.escape_html("<a href=\"x\">&'"))
    assert.equal("&lt;a&gt;\u{FFFD}\t\n&#13;", text.escape_xml("<a>\1\t\n\r"))
    assert.equal("\u{FFFD}\u{FFFD}é", text.escape_xml("\u{FFFE}\u{FFFF}é"))
  end)
end)

describe("text.strip_html", function()
  local cases = {
    ["<p>One <b>two</b>\n three<br>four</p><p>five</p>"] = "One two three\nfour\n\nfive",
    ["<ul><li>a</li><li><p>b</p></li></ul>"] = "- a\n- b",
    ["<a href='https://x.example/?a=1&amp;b=2'>here</a>."] = "here (https://x.example/?a=1&b=2).",
    ["<a href=https://x.example>https://x.example</a>"] = "https://x.example",
    ["<a href=\"javascript:alert(1)\">x</a>"] = "x",
    ["<script>if (a < b) alert('x')</script><style>p{}</style>seen<!-- <b>not</b> -->"] = "seen",
    ["&lt;b&gt; &amp;amp; &#233; &#x98DE; &nosuch; &#xD800;"] = "<b> &amp; é 飞 &nosuch; \u{FFFD}",
    ["<pre>  a\n    b</pre>"] = "a\n    b",
    ["a < b and c > d"] = "a < b and c > d",
    ["<img src=x alt=\"a cat\"> <td>1</td><td>2</td>"] = "[a cat] 1 2",
    ["x<a title=\"a>b\" href=\"https://y.example\">z</a>"] = "xz (https://y.example)",
    ["<script>never closed"] = "never closed", ["open <b"] = "open",
  }
  for html, expected in pairs(cases) do
    it("reads " .. html, function()
      assert.equal(expected, text.strip_html(html))
    end)
  end

  it("is linear", function()
    local started = os.clock()
    for _, html in ipairs { "<", "<a>", "<script>", "<!--", "<a href=\"", "&", "<br>", "<!", "<p '" , "<pre>", "</script" } do
      text.strip_html(html:rep(1000000 // #html))
    end
    assert.is_true(os.clock() - started < 20)
  end)
end)
