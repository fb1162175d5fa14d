---@meta
-- The reference of what rules may call, in LuaCATS (for lua-language-server and for people). docs/scripting.md teaches it.
--
-- Beside this rules see Lua 5.4 without what reaches the system. What can fail at run time returns nil, a message and a code;
-- misuse raises an error with file and line. Times are seconds and may have fractions.

-- ---------------------------------------------------------------- declaring
-- While the folder loads, and not later.

---Adds a route. Routes are tried in order; the first that matches decides.
---@param definition rules.Route
function route(definition) end

---@class rules.Route
---@field name? string what receipts and `notifyhub explain` call it
---@field match? rules.Match|fun(message: rules.Message): boolean? which messages; without it, all
---@field to? rules.Target|false who is told; without it, the message's own targets
---@field template? string|false
---@field handle? rules.Handler|false called instead of sending to `to`
---@field retry? rules.Retry|false
---@field timeout? number|false seconds for the message; its own stands over it
---@field continue? boolean whether the routes after it are tried too
---@field routes? rules.Route[] children, which inherit to, template, handle, retry and timeout

---Conditions by key of the metadata or field of the message, all of which must hold: a text, a number, a boolean (there or not),
---"~pattern", ">= 5", "!not this", a list of these, or a table of conditions for what is inside. A list of matches: one of them.
---@alias rules.Match table<string, any>|rules.Match[]

---What it returns: nothing, when it has sent; true, when it has taken the message; false and why, when it refuses it.
---@alias rules.Handler fun(message: rules.Message): boolean?, string?

---Adds a template; files in templates/ are templates, too.
---@param name string
---@param definition string|rules.Template a string is the body
function template(name, definition) end

---@class rules.Words
---@field title? string
---@field body? string
---@field format? "text"|"markdown"|"html" of the body; default "text"

---@class rules.Template: rules.Words
---@field defaults? table what stands for what a message does not have
---@field [string] rules.Words by platform, over the ones above

---Calls a function for every message.
---@overload fun(event: "complete"|"error", callback: fun(receipt: rules.Receipt, message: rules.Message))
---@overload fun(event: "retry", callback: fun(failure: rules.Failure, message: rules.Message))
---@overload fun(event: "progress", callback: fun(progress: { done: integer, total: integer }, message: rules.Message))
---@param event "complete"|"error"|"retry"|"progress"
---@param name string only for messages that ask for it: on_complete = "name"
---@param callback fun(what: table, message: rules.Message)
function on(event, name, callback) end

---@class rules.Failure an attempt that failed and is made again
---@field platform string
---@field target string
---@field attempt integer
---@field wait number seconds until the next
---@field code string
---@field error string

---Adds a function that is asked for every target that is a text and no URL.
---@param resolver fun(target: string): rules.Target? nil: the next one, then the configuration
function resolve(resolver) end

-- ------------------------------------------------------------------ sending

---Delivers now, in this coroutine, with retries, and returns what came of it.
---@param message rules.Message|rules.NewMessage
---@param target? rules.Target default: the message's own targets
---@param options? { template?: string, retry?: rules.Retry }
---@return rules.Sent sent
function send(message, target, options) end

---@class rules.Sent: rules.Result of a single delivery, all fields of its result
---@field ok boolean whether everybody was told who had to be
---@field code? string the first failure's
---@field error? string
---@field results rules.Result[]

---A text (a URL, an address, a name of the configuration), {platform, type, value}, a choice, or a list of these.
---@alias rules.Target string|{ platform?: string, type?: string, value?: string }|rules.Choice|rules.Target[]

---A target that decides among others when it is used. Calling it sends: choice(message, options).
---@class rules.Choice
---@operator call(rules.Message): rules.Sent

---@param targets rules.Target[]
---@return rules.Choice choice the first that delivers
function fallback(targets) end

---@param targets rules.Target[]
---@return rules.Choice choice everyone; delivered when all are
function all(targets) end

---@param targets rules.Target[]
---@return rules.Choice choice everyone; delivered when one is
function any(targets) end

---@param targets rules.Target[]
---@return rules.Choice choice by turns, over all workers; the others when that one fails
function round_robin(targets) end

---@param weights table<string, integer> { ["sms-a"] = 3, ["sms-b"] = 1 }
---@return rules.Choice choice by turns, as often as the weights say
function weighted(weights) end

---@param targets rules.Target[]
---@return rules.Choice choice the one whose account did best lately
function healthiest(targets) end

-- ----------------------------------------------------------------- messages

---@class rules.NewMessage one that a rule makes; what is missing is the other message's
---@field title? string
---@field body? string
---@field format? "text"|"markdown"|"html"
---@field priority? "low"|"normal"|"high"|"urgent"
---@field targets? rules.Target[]
---@field template? string
---@field variables? table
---@field metadata? table
---@field attachments? table[]
---@field platform? table<string, table>
---@field retry? rules.Retry

---@class rules.Message: rules.NewMessage the one that came; a copy of its own, which may be changed
---@field id string
---@field created_at number when it was accepted
---@field metadata table empty when the sender gave none
---@field deliver_at? number
---@field expires_at? number
---@field timeout? number
---@field dedupe_key? string

---@class rules.Retry
---@field attempts? integer
---@field backoff? "exponential"|"linear"|"fixed"
---@field initial? number
---@field max? number
---@field multiplier? number
---@field jitter? number

---@class rules.Receipt
---@field id string
---@field status "delivered"|"partial"|"failed"|"cancelled"|"expired"
---@field code? string
---@field error? string
---@field results rules.Result[]
---@field created_at number
---@field settled_at number
---@field route? string
---@field generation integer
---@field warnings? string[]

---@class rules.Result
---@field platform? string
---@field target string without secrets
---@field ok boolean
---@field code? string
---@field error? string
---@field status_code? integer
---@field provider_id? string
---@field attempts integer
---@field latency number
---@field retryable? boolean
---@field warning? string
---@field superseded? boolean it failed, and a choice made that good
---@field route? string

-- --------------------------------------------------------------------- tools

---Waits. Only in the coroutine of a message.
---@param seconds number
function sleep(seconds) end

---Seconds since the epoch, with fractions; in a test, the test's.
---@return number seconds
function now() end

---@param request string|rules.Request a string is the URL
---@return { status: integer, headers: table<string, string>, body: string }? response whatever its status
---@return string? problem
---@return string? code
function http(request) end

---@class rules.Request
---@field url string
---@field method? string default GET, POST with a body
---@field headers? table<string, string>
---@field body? string
---@field json? any the body, as JSON
---@field timeout? number
---@field connect_timeout? number
---@field verify? boolean
---@field ca_file? string
---@field proxy? string

---@class rules.json
---@field null any
json = {}

---@param value any
---@return string text
function json.encode(value) end

---@param text string
---@return any value nil when it is no JSON
---@return string? problem
function json.decode(text) end

---For an object that is written again and again: the function takes the values in the order of the names; those that are
---nil are left out.
---@param names string[]
---@return fun(...): string
function json.object(names) end

---Marks a table as a list, for one that may be empty.
---@param list table
---@return table list
function json.array(list) end

---The operator's log: a line each.
log = {}

---@param text any
function log.error(text) end
---@param text any
function log.warn(text) end
---@param text any
function log.info(text) end
---@param text any
function log.debug(text) end

---An environment variable that the configuration lists in `env`; another one is an error.
---@param name string
---@return string? value
function env(name) end

-- --------------------------------------------------------------------- store
-- The dictionary that all workers of a hub share. Each call is atomic, values are copied.

---@alias rules.Life number|{ ttl?: number, durable?: boolean } seconds until the key ends by itself; durable ones need a journal

store = {}

---@param key string
---@return any value
function store.get(key) end

---@param key string
---@param value any nil deletes
---@param life? rules.Life
---@return true? ok
---@return string? problem
---@return string? code
function store.set(key, value, life) end

---@param key string
---@param value any
---@param life? rules.Life
---@return boolean? added whether the key was not there
---@return string? problem
---@return string? code
function store.add(key, value, life) end

---@param key string
---@param by? number default 1
---@param life? rules.Life
---@return number? value
---@return string? problem
---@return string? code
function store.incr(key, by, life) end

---@param key string
---@param expected any nil: not there
---@param value any nil deletes
---@param life? rules.Life
---@return boolean? swapped
---@return string? problem
---@return string? code
function store.cas(key, expected, value, life) end

---@param key string
---@return boolean? deleted
function store.delete(key) end

---@param key string
---@param value any
---@param life? rules.Life
---@return integer? count
---@return string? problem
---@return string? code
function store.push(key, value, life) end

---@param key string
---@return any value the oldest, nil when there is none
function store.pop(key) end

---@param key string
---@return any[]? values
function store.pop_all(key) end

---@param key string
---@return integer? count
function store.length(key) end

---@param key string
---@return number? seconds math.huge: no end; nil: no such key
function store.ttl(key) end

---@param prefix? string
---@param most? integer default 1000
---@return string[] keys
function store.keys(prefix, most) end

---@return { entries: integer, bytes: integer } figures
function store.stats() end

-- --------------------------------------------------------------------- tests
-- In *_test.lua only.

---One test, with an empty store.
---@param name string
---@param body fun()
function test(name, body) end

---What would be sent: nothing is, and sleeps take no time.
---@param message table|table[] `at` in one of a list: seconds after the beginning
---@param options? rules.Simulation
---@return rules.Simulated sent
function simulate(message, options) end

---@class rules.Simulation
---@field now? number|string when it begins: seconds since the epoch, or "2026-01-31T23:30" (UTC)
---@field replies? table<string, any>|fun(attempt: rules.Attempt): any by target, platform or URL: what becomes of an attempt
---@field scores? table<string, number> by account, for healthiest

---@class rules.Attempt
---@field target? string
---@field platform? string
---@field title? string
---@field body? string
---@field format? string
---@field attempt? integer
---@field at number seconds after the beginning
---@field request table
---@field route? string
---@field id string the message's
---@field url? string of an `http` of the rules

---@class rules.Simulated
---@field [integer] rules.Attempt
---@field receipt rules.Receipt of the first message
---@field receipts rules.Receipt[]
