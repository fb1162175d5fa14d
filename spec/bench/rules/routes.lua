-- Fifty routes, the last of which takes the benchmark's message, and a callback.

local matches = {
  function(index) return { service = "service-" .. index, severity = { "critical", "page" } } end,
  function(index) return { service = "service-" .. index } end,
  function(index) return { service = "service-" .. index, region = "eu" } end,
}

for index = 1, 49 do
  route { name = "r" .. index, match = matches[index % #matches + 1](index), to = "sink" }
end
route { name = "last", match = { service = "payments" }, to = "sink", template = "incident" }

local told = 0
on("complete", function(receipt)
  told = told + #receipt.results
end)
