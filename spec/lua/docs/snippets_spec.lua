-- What the documents show is run. A fenced block under a line `<!-- run: KIND -->` is a whole program:
--
--   sh    run by `sh -eu`, with the built notifyhub in PATH
--   lua   run by lua5.4, and by luajit when it is there (not with a sanitizer: see spec/CMakeLists.txt)
--   c     compiled against the built library and run
--
-- Programs start in an empty directory. Where they name the receiver of README.md (127.0.0.1:8080, 127.0.0.1:2525) they
-- get one of their own, and something must arrive there. Links to files of the project must lead somewhere.

local receiver = require "spec.support.receiver"

local source, build = os.getenv "NH_SOURCE_DIR", os.getenv "NH_BUILD_DIR"
local sanitize = os.getenv "NH_SANITIZE" or ""

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

local function read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read "a"
end

local function write(path, text)
  local file <close> = assert(io.open(path, "wb"))
  assert(file:write(text))
end

local function output(command)
  local pipe = assert(io.popen(command .. " 2>&1"))
  local text = pipe:read "a"
  local ok, _, status = pipe:close()
  return ok == true, text, status
end

local function succeeds(command)
  local ok, text, status = output(command)
  assert(ok, ("%s\nended with %s and said:\n%s"):format(command, tostring(status), text))
  return text
end

local documents = {}
for path in succeeds("cd " .. quote(source) .. " && ls README.md docs/*.md"):gmatch "[^\n]+" do
  documents[#documents + 1] = { path = path, text = read(source .. "/" .. path) }
end

-- The runnable blocks of a document, in order.
local function snippets(document)
  local found, number = {}, 0
  local kind, text, line
  for content in (document.text .. "\n"):gmatch "(.-)\n" do
    number = number + 1
    if text then
      if content:find "^```%s*$" then
        found[#found + 1] = { kind = kind, line = line, text = table.concat(text, "\n") .. "\n" }
        kind, text = nil, nil
      else
        text[#text + 1] = content
      end
    elseif kind then
      assert(content:find "^```%w+%s*$", ("%s:%d: no fenced block under `run:`"):format(document.path, number))
      text, line = {}, number
    else
      kind = content:match "^%s*<!%-%- run: (%w+) %-%->%s*$"
    end
  end
  assert(not kind, document.path .. ": a block does not end")
  return found
end

local directory, sink

local run = {}

function run.sh(text)
  write(directory .. "/snippet.sh", text)
  succeeds(("cd %s && sh -eu snippet.sh"):format(quote(directory)))
end

function run.lua(text)
  write(directory .. "/snippet.lua", text)
  succeeds(("cd %s && lua5.4 snippet.lua"):format(quote(directory)))
  if sanitize == "" and output "command -v luajit" then
    succeeds(("cd %s && LUA_CPATH=%s luajit snippet.lua"):format(quote(directory), quote(build .. "/lua/5.1/?.so")))
  end
end

function run.c(text)
  write(directory .. "/snippet.c", text)
  local flags = sanitize ~= "" and "-fsanitize=" .. sanitize or ""
  succeeds(("cd %s && cc -std=c11 -Wall -Wextra -Werror %s -I%s -o snippet snippet.c -L%s -lnotifyhub -Wl,-rpath,%s")
    :format(quote(directory), flags, quote(source .. "/runtime"), quote(build .. "/lib"), quote(build .. "/lib")))
  succeeds(("cd %s && ./snippet"):format(quote(directory)))
end

describe("a program in the documents", function()
  before_each(function()
    directory = succeeds("mktemp -d"):match "%S+"
    sink = receiver.start { http = true, smtp = true }
  end)

  after_each(function()
    sink:stop()
    os.execute("rm -rf " .. quote(directory))
  end)

  local count = 0
  for _, document in ipairs(documents) do
    for _, snippet in ipairs(snippets(document)) do
      count = count + 1
      it(("runs: %s:%d"):format(document.path, snippet.line), function()
        local runner = assert(run[snippet.kind], "no way to run " .. snippet.kind)
        local here, http = snippet.text:gsub("127%.0%.0%.1:8080", "127.0.0.1:" .. sink.http_port)
        local smtp
        here, smtp = here:gsub("127%.0%.0%.1:2525", "127.0.0.1:" .. sink.smtp_port)
        runner(here)
        if http + smtp > 0 then assert(sink:wait(1)) end
      end)
    end
  end

  it("is there, in shell, Lua and C", function()
    assert.is_true(count >= 3)
  end)
end)

describe("a link in the documents", function()
  for _, document in ipairs(documents) do
    it("leads somewhere: " .. document.path, function()
      local folder = document.path:match "^(.*/)" or ""
      for link in document.text:gmatch "%]%(([^)%s]+)%)" do
        local path = link:match "^[^#]*"
        if path ~= "" and not link:find "^%a+:" then
          assert(output("test -e " .. quote(source .. "/" .. folder .. path)), document.path .. ": " .. link)
        end
      end
    end)
  end
end)
