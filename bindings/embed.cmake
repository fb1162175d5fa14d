# Writes OUTPUT, a C header with the Lua files FILES (separated by |) as text, in that order.
string(REPLACE "|" ";" files "${FILES}")
set(arrays "")
set(rows "")
foreach(file IN LISTS files)
  get_filename_component(name ${file} NAME_WE)
  file(READ ${file} hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," bytes "${hex}")
  string(APPEND arrays "static const char ${name}_text[] = {\n${bytes}};\n")
  string(APPEND rows "    {\"=notifyhub/${name}.lua\", ${name}_text, sizeof ${name}_text},\n")
endforeach()
file(WRITE ${OUTPUT} "/* Generated from the Lua files of bindings/lua. */
${arrays}
static const struct {
    const char *name, *text;
    size_t length;
} chunks[] = {
${rows}};
")
