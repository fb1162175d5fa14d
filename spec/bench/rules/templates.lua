template("incident", {
  title = "[{{ metadata.severity }}] {{ title }}",
  body = [[
{{ metadata.service }} in {{ metadata.region }}: {{ body }}
{% if metadata.load > 1 then %}load {{ metadata.load }}{% end %}
]],
})
