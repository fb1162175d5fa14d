---@meta notifyhub
-- The reference of the `notifyhub` module, in LuaCATS (for lua-language-server and for people).
--
-- Misuse (a wrong type, an unknown option) raises an error with the caller's position. What can fail
-- at run time returns nil, a message and a code; `notifyhub.codes` has all codes.
-- Times are seconds and may have fractions; where a limit is nil there is none.
--
-- Callbacks run inside poll, wait, results, run, sleep, send and close of their hub, one after the
-- other in the calling thread, and nowhere else; only a callback that is set after the end is called
-- at once. A callback may wait; it cannot yield. An error in one harms nothing else: see
-- Hub:on_callback_error.
--
-- A table with the keys 1 to n is a list, one with strings as keys is a map; anything else, and
-- functions, cannot be sent. An empty table is whichever of both is expected; notifyhub.array marks
-- one as a list. Tables are read raw, without metamethods. In Lua 5.1 and LuaJIT, where all numbers
-- are floats, those with an integral value are sent as integers.

---@class notifyhub
---@field version string the library's version, "MAJOR.MINOR.PATCH"
---@field null lightuserdata JSON's null, in lists and maps; the same value as cjson.null
---@field codes table<notifyhub.Code, boolean> every error code, and whether a retry may help
local notifyhub = {}

---@alias notifyhub.Code
---| "invalid" | "no_route" | "unknown_platform" | "unknown_target" | "queue_full" | "closed"
---| "timeout" | "expired" | "cancelled" | "duplicate" | "network" | "tls" | "auth" | "rejected"
---| "rate_limited" | "unavailable" | "too_large" | "script" | "script_limit" | "script_memory"
---| "config" | "journal" | "internal"

---@alias notifyhub.Status "delivered"|"partial"|"failed"|"cancelled"|"expired"

---Opens a hub: checks the configuration and starts the workers. `{}` is all defaults.
---@param config table|string the configuration, or the path of a file that has it
---@return notifyhub.Hub? hub
---@return string? message
---@return notifyhub.Code? code
function notifyhub.new(config) end

---Marks a table as a list, for one that may be empty.
---@generic T: table
---@param list? T a new table when absent
---@return T list
function notifyhub.array(list) end

---A string that prints as "<secret>", for passwords and tokens in a configuration.
---@param text string
---@return userdata secret
function notifyhub.secret(text) end

-- ------------------------------------------------------------------- messages

---@class notifyhub.Retry
---@field attempts? integer
---@field backoff? "exponential"|"linear"|"fixed"
---@field initial? number
---@field max? number
---@field multiplier? number
---@field jitter? number

---@class notifyhub.Message
---@field id? string unique; made when absent
---@field title? string one of title, body and template is required
---@field body? string
---@field format? "text"|"markdown"|"html" default "text"
---@field priority? "low"|"normal"|"high"|"urgent" default "normal"
---@field targets? (string|notifyhub.Target)[]
---@field template? string
---@field variables? table
---@field metadata? table free
---@field attachments? notifyhub.Attachment[]
---@field platform? table<string, table> options for one platform: platform.slack.blocks …
---@field deliver_at? number seconds since the epoch
---@field expires_at? number seconds since the epoch
---@field timeout? number for the whole message, its time in the queue included
---@field dedupe_key? string messages with the same key within queue.dedupe_window are one
---@field retry? notifyhub.Retry
---@field on_complete? string a callback of the rules, by name: runs in the worker
---@field on_error? string
---@field on_retry? string
---@field on_progress? string

---@class notifyhub.Target
---@field platform? string an account or a platform; this or `value`
---@field type? string
---@field value? string

---@class notifyhub.Attachment
---@field name string
---@field content_type? string
---@field content? string the bytes; or `path`
---@field path? string
---@field inline_id? string

---@class notifyhub.Receipt what came of a message
---@field id string
---@field status notifyhub.Status
---@field code? notifyhub.Code
---@field error? string
---@field results notifyhub.Result[] one a delivery
---@field created_at number
---@field settled_at number
---@field route? string the route of the rules that took it
---@field generation? integer which load of the rules it was
---@field warnings? string[] what templates found missing

---@class notifyhub.Result what came of a message for one target
---@field platform? string absent when the target could not be resolved
---@field target string without secrets
---@field ok boolean
---@field code? notifyhub.Code
---@field error? string
---@field status_code? integer
---@field provider_id? string
---@field attempts integer
---@field latency number
---@field retryable? boolean
---@field warning? string delivered, but not everything
---@field superseded? boolean it failed, and a choice of the rules made that good
---@field route? string where several routes took the message

-- ------------------------------------------------------------------------ hub

---A hub is used by one Lua state. Its handles and batches keep it alive. One that is collected, or
---that leaves the scope of a `local hub <close>`, closes itself as close() does; the collector runs
---no callbacks.
---@class notifyhub.Hub
local Hub = {}

---Accepts a message; it is validated and queued when this returns, and with a journal on the disk: then it
---blocks some milliseconds, or in a task of run lets the others go on. A duplicate (dedupe_key) returns the
---first one's handle with a text and "duplicate".
---@param message notifyhub.Message
---@param options? notifyhub.HandleOptions
---@return notifyhub.Handle? handle
---@return string? problem
---@return notifyhub.Code? code
function Hub:send_async(message, options) end

---@class notifyhub.Acceptance
---@field acceptance? "later" with a journal: return at once; see Handle:accepted
---@field wait? number seconds to wait for room in a full queue or journal

---@class notifyhub.HandleOptions: notifyhub.Acceptance callbacks as the handle's methods set them
---@field on_complete? fun(receipt: notifyhub.Receipt)
---@field on_error? fun(message: notifyhub.Message, problem: string, receipt: notifyhub.Receipt)
---@field on_progress? fun(done: integer, total: integer)
---@field on_retry? fun(retries: integer)

---Accepts all of the messages or none. Blocks as send_async does. A duplicate has a handle of its own that
---has failed with "duplicate".
---@param messages notifyhub.Message[]
---@param options? notifyhub.BatchOptions
---@return notifyhub.Batch? batch
---@return string? problem names the message: "messages[3].title: …"
---@return notifyhub.Code? code
function Hub:send_batch(messages, options) end

---@class notifyhub.DeadLetter a message that failed for good
---@field number integer names it
---@field id string
---@field code notifyhub.Code
---@field reason string
---@field answer? string of the platform, the last
---@field attempts integer
---@field crashes integer how often the process ended while a script had it
---@field priority string
---@field created_at number
---@field died_at number
---@field bytes integer
---@field message? notifyhub.Message of a single letter; URLs of targets are cut ("json://…"), texts in `platform` hidden

---Dead letters, the oldest first. They need a journal: nil, message, "config" without one.
---@param options? { after?: integer, limit?: integer } after this number; at most so many (100)
---@return notifyhub.DeadLetter[]? letters
---@return string? problem
---@return notifyhub.Code? code
function Hub:dead_letters(options) end

---@param number integer
---@return notifyhub.DeadLetter? letter with its message
---@return string? problem
---@return notifyhub.Code? code
function Hub:dead_letter(number) end

---Sends it again, to all of its targets and with all attempts anew.
---@param number integer|"all"
---@return integer? count
---@return string? problem
---@return notifyhub.Code? code
function Hub:retry_dead(number) end

---@param number integer|"all"
---@return integer? count
---@return string? problem
---@return notifyhub.Code? code
function Hub:discard_dead(number) end

---@class notifyhub.BatchOptions: notifyhub.Acceptance callbacks as the batch's methods set them
---@field on_progress? fun(done: integer, total: integer)
---@field on_complete? fun(receipts: notifyhub.Receipt[])

---Sends a message and waits for its receipt, as send_async and Handle:wait do.
---@param message notifyhub.Message
---@param seconds? number
---@return notifyhub.Receipt? receipt
---@return string? problem also with a receipt that is not delivered
---@return notifyhub.Code? code
function Hub:send(message, seconds) end

---Runs the callbacks of what has happened; with `seconds`, waits at most so long for one to run.
---Inside run there is no need for it: run polls by itself.
---@param seconds? number default 0
---@return integer count callbacks that ran
function Hub:poll(seconds) end

---A descriptor that is readable while poll(0) has something to do. Only poll it: never read, write
---or close it.
---@return integer? fd
---@return string? problem
---@return notifyhub.Code? code
function Hub:fd() end

---Runs `fn` as a task: a coroutine in which wait, send, sleep and the loop over results let the other
---tasks run instead of blocking. Returns when all tasks have ended: what `fn` returned. An error in
---a task is raised then, with that task's traceback.
---
---What waits in a callback, or in a coroutine that a task made itself, blocks, and the other tasks
---with it. Lua 5.1 (not LuaJIT) cannot yield across pcall or an iterator: do not wait inside pcall
---there, and know that the loop over results blocks.
---@param fn fun(...): ...
---@param ... any arguments of fn
---@return any ...
function Hub:run(fn, ...) end

---Starts one more task; inside run only.
---@param fn fun(...): ...
---@param ... any arguments of fn
---@return notifyhub.Task task
function Hub:spawn(fn, ...) end

---Lets other tasks (in a task) and callbacks run for this time.
---@param seconds? number default 0
function Hub:sleep(seconds) end

---Figures since the hub was opened.
---@return notifyhub.Figures figures
function Hub:stats() end

---@class notifyhub.Figures
---@field version string
---@field uptime number
---@field accepted integer
---@field pending integer accepted and not settled
---@field retries integer
---@field delivered integer
---@field partial integer
---@field failed integer
---@field cancelled integer
---@field expired integer
---@field queue notifyhub.QueueFigures
---@field workers { count: integer, in_flight: integer, asleep: integer, memory: integer, grown: integer, shrunk: integer }
---@field http { direct: integer, multi: integer, opened: integer } requests by their way; connections of `direct`
---@field lanes { count: integer, in_flight: integer, waiting: integer, backoffs: integer } of hosts
---@field rates { waiting: integer, delayed: integer, pauses: integer } of accounts and recipients
---@field breakers { open: integer, half_open: integer, opened: integer, refused: integer } of hosts
---@field generations { number: integer, loaded_at: number, messages: integer }[] of the rules, the newest first

---@class notifyhub.QueueFigures
---@field capacity integer
---@field low integer waiting for a worker, by priority
---@field normal integer
---@field high integer
---@field urgent integer
---@field scheduled integer waiting for their deliver_at
---@field bytes integer

---Has `fn` called when a circuit breaker opens, is tried or closes. As all callbacks it runs inside
---poll, wait, run and close; up to 1000 changes (with the log's lines) are kept until then.
---@param fn fun(change: notifyhub.BreakerChange)
---@return notifyhub.Hub self
function Hub:on_breaker(fn) end

---@class notifyhub.BreakerChange
---@field kind "breaker"
---@field at number seconds since the epoch
---@field host string
---@field from "closed"|"open"|"half-open"
---@field to "closed"|"open"|"half-open"
---@field seconds number how long it stays open; 0 unless it opened

---Has `fn` called with each line of the log, when the configuration says `log.to = "program"`. A
---function as `log.to` is the same.
---@param fn fun(line: string, level: "error"|"warn"|"info"|"debug")
---@return notifyhub.Hub self
function Hub:on_log(fn) end

---What the figures say: `unknown` until something was tried; `healthy` from 95 % delivered on,
---`degraded` from 50 % on or while the queue is 90 % full, else `unhealthy`; `closed`. And how each
---account and target is doing.
---@return notifyhub.Health health
function Hub:health() end

---Counters and gauges in the text format of Prometheus (0.0.4).
---@return string text
function Hub:metrics() end

---@class notifyhub.Health
---@field status "unknown"|"healthy"|"degraded"|"unhealthy"|"closed"
---@field success_rate? number 0 to 1, of the messages that were tried and not cancelled
---@field uptime number
---@field accepted integer
---@field pending integer accepted and not settled
---@field queued integer
---@field in_flight integer
---@field workers integer
---@field delivered integer
---@field partial integer
---@field failed integer
---@field cancelled integer
---@field expired integer
---@field retries integer
---@field platforms table<string, notifyhub.View> by account
---@field targets table<string, notifyhub.View> by target, without secrets
---@field breakers table<string, table> by host: state ("open", "half-open"), retry_in (seconds), failures
---@field lanes table<string, notifyhub.Lane> by account and host: "slack hooks.slack.com"
---@field journal? notifyhub.JournalHealth absent without one
---@field left_out integer accounts and targets that are not shown: over a thousand

---@class notifyhub.JournalHealth
---@field state "ok"|"slow"|"full"|"trouble"|"broken" the last three take no messages; broken: until it is opened anew
---@field rows integer messages that it keeps
---@field oldest number seconds since the first of them was accepted
---@field bytes integer used
---@field most integer of so many
---@field dead integer dead letters
---@field commit_seconds number that the last group commit took
---@field last_error? string absent when the last write went well

---@class notifyhub.Lane what an account gets at a host
---@field limit integer transfers that it gets at once
---@field in_flight integer transfers now
---@field waiting integer attempts that wait for a place
---@field oldest number seconds that the first of them has waited

---@class notifyhub.View what attempts came to; what is not known is absent
---@field limit? integer this and the three below: of the lane that the last attempt went through
---@field in_flight? integer
---@field waiting? integer
---@field oldest? number
---@field state "unknown"|"healthy"|"degraded"|"down"
---@field score? number 0 to 1: what `healthiest` chooses by
---@field success_rate? number 0 to 1; half after ten minutes
---@field success_rate_5m? number of the last five minutes
---@field p50? number seconds that an answered attempt takes
---@field p90? number
---@field p99? number
---@field delivered integer attempts, in all
---@field failed integer
---@field refused integer the platform answered, and did not like the message
---@field consecutive_failures integer
---@field last_success_at? number
---@field last_error_at? number
---@field last_error? string
---@field last_error_code? notifyhub.Code

---The platforms that this hub knows.
---@return notifyhub.Platform[]? platforms
---@return string? problem
---@return notifyhub.Code? code
function Hub:platforms() end

---@class notifyhub.Platform
---@field name string
---@field summary string
---@field docs? string where the platform's own documents are
---@field transport string
---@field schemes string[] of target URLs
---@field native string[] beginnings of the platform's own URLs
---@field urls string[] forms of target URLs
---@field example? string a target URL
---@field recipients string[] types of recipients, the usual one first
---@field formats string[]
---@field attachments string
---@field limits table
---@field options table<string, notifyhub.Option> of an account
---@field message_options table<string, notifyhub.Option> of a message: platform.NAME

---@class notifyhub.Option
---@field type? string
---@field required? boolean
---@field default? any
---@field one_of? any[]
---@field min? number
---@field max? number
---@field secret? boolean
---@field help? string

---Loads the rules anew: reads the folder, tries it and its tests, and gives it all messages that
---are taken from the queue from now on. Blocks while that takes, at most limits.loading for each.
---@return boolean? ok
---@return string? problem file, line and reason; the old rules go on
---@return notifyhub.Code? code
function Hub:reload() end

---Stops accepting, lets accepted messages end, settles what is left then as `closed`, and runs the
---callbacks of all. Blocks. May be called again.
---@param seconds? number default 10
---@return integer count messages that were settled as closed
function Hub:close(seconds) end

---Sets what gets the errors of callbacks, with their tracebacks. Without it they go to the standard
---error.
---@param fn? fun(problem: string)
---@return notifyhub.Hub self
function Hub:on_callback_error(fn) end

---@class notifyhub.Task
local Task = {}

---Waits for a task of the same run.
---@param seconds? number
---@return any ... what its function returned; nil, message, "script" when it raised an error, and
---nil, message, "timeout"
function Task:wait(seconds) end

-- --------------------------------------------------------------------- handle

---What becomes of a message. Nobody needs to keep it: the message is sent all the same, and
---callbacks that were set run.
---@class notifyhub.Handle
---@field id string the message's
local Handle = {}

---@return notifyhub.HandleStatus status
function Handle:status() end

---@class notifyhub.HandleStatus
---@field id string
---@field state "scheduled"|"queued"|"running"|notifyhub.Status
---@field done integer deliveries that have ended
---@field total integer deliveries known so far
---@field retries integer attempts that had to be repeated

---The receipt, or nil before there is one. Never blocks, runs no callback.
---@return notifyhub.Receipt? receipt
function Handle:result() end

---Whether the message is accepted: only with a journal and `acceptance = "later"` is that not known at
---once. Waits while it is not.
---@param seconds? number
---@return true? accepted
---@return string? problem
---@return notifyhub.Code? code "timeout", "journal" or "duplicate"
function Handle:accepted(seconds) end

---Waits for the receipt. Any number may wait, and again: all see the same.
---@param seconds? number
---@return notifyhub.Receipt? receipt nil after a timeout; the message goes on
---@return string? problem also with a receipt that is not delivered: what went wrong
---@return notifyhub.Code? code
function Handle:wait(seconds) end

---Stops the message: a queued one is never sent, a transfer is aborted.
---@return boolean stopped false when it had settled, or been cancelled, before
function Handle:cancel() end

---Each kind of callback may be set several times; they run in that order.
---@param fn fun(receipt: notifyhub.Receipt)
---@return notifyhub.Handle self
function Handle:on_complete(fn) end

---Called when the message settles other than delivered.
---@param fn fun(message: notifyhub.Message, problem: string, receipt: notifyhub.Receipt)
---@return notifyhub.Handle self
function Handle:on_error(fn) end

---Called with new figures, at the end at the latest. Figures that change between two polls are told
---once.
---@param fn fun(done: integer, total: integer)
---@return notifyhub.Handle self
function Handle:on_progress(fn) end

---Called when attempts had to be repeated, with how many so far.
---@param fn fun(retries: integer)
---@return notifyhub.Handle self
function Handle:on_retry(fn) end

-- ---------------------------------------------------------------------- batch

---`#batch` is the number of its messages, `batch[i]` the handle of the i-th.
---@class notifyhub.Batch
---@field id string
---@field [integer] notifyhub.Handle
local Batch = {}

---@return notifyhub.BatchStatus status
function Batch:status() end

---@class notifyhub.BatchStatus
---@field id string
---@field state "running"|notifyhub.Status
---@field total integer
---@field settled integer
---@field failed integer settled, and not delivered to all their targets
---@field delivered integer

---@return integer settled
---@return integer total
function Batch:progress() end

---Iterates over index, receipt in the order in which the messages settle; waits for each, ends after
---the last. Each iterator sees all.
---@return fun(): integer?, notifyhub.Receipt?
function Batch:results() end

---Whether its messages are accepted, as Handle:accepted.
---@param seconds? number
---@return true? accepted
---@return string? problem
---@return notifyhub.Code? code
function Batch:accepted(seconds) end

---Waits until all have settled.
---@param seconds? number
---@return notifyhub.Receipt[]? receipts in the order of the messages
---@return string? problem tells how many have not settled
---@return notifyhub.Code? code
function Batch:wait(seconds) end

---Cancels every message that has not settled.
---@return integer count
function Batch:cancel() end

---@param fn fun(done: integer, total: integer)
---@return notifyhub.Batch self
function Batch:on_progress(fn) end

---@param fn fun(receipts: notifyhub.Receipt[])
---@return notifyhub.Batch self
function Batch:on_complete(fn) end

return notifyhub
