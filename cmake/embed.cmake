# Writes the scripts given as NAME=FILE pairs (SCRIPTS, a list) into OUTPUT as a C table of nh_builtin.
# Called at build time: cmake -DOUTPUT=… -DSCRIPTS=… -P embed.cmake
set(arrays "")
set(table "")
set(number 0)
foreach(script IN LISTS SCRIPTS)
  string(REGEX MATCH "^([^=]+)=(.+)$" _ "${script}")
  set(name "${CMAKE_MATCH_1}")
  set(path "${CMAKE_MATCH_2}")
  file(READ "${path}" hex HEX)
  string(LENGTH "${hex}" length)
  math(EXPR length "${length} / 2")
  string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," hex "${hex}")
  string(APPEND arrays "static const unsigned char source_${number}[] = {\n${hex}\n};\n")
  string(APPEND table "    {\"${name}\", source_${number}, ${length}},\n")
  math(EXPR number "${number} + 1")
endforeach()
file(WRITE "${OUTPUT}" "/* Made from the scripts by cmake/embed.cmake. */
#include \"runtime/script/bundle.h\"

${arrays}
const nh_builtin nh_builtins[] = {
${table}    {NULL, NULL, 0},
};
")
