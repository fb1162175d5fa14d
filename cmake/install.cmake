# Where an installed NotifyHub has its files. bindings/ installs the Lua modules, runtime/cli the man page.
#
#   bin/notifyhub                     include/notifyhub.h
#   lib/libnotifyhub.so.0 and .a      lib/notifyhub/engine.so, opened by the library at run time
#   lib/pkgconfig/notifyhub.pc        lib/cmake/NotifyHub/
#   share/man/man1/notifyhub.1        share/doc/notifyhub/

include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/NotifyHub)

foreach(library notifyhub notifyhub_static)
  target_include_directories(${library} INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
endforeach()
install(TARGETS notifyhub EXPORT NotifyHubTargets)
install(TARGETS notifyhub_static EXPORT NotifyHubStaticTargets)
install(TARGETS notifyhub_engine LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/notifyhub)
install(TARGETS notifyhub_cli)
install(FILES runtime/notifyhub.h TYPE INCLUDE)

# The documents stand as they do here, so that their links lead somewhere; but for the header, which
# has a place of its own.
file(RELATIVE_PATH from_doc_to_include ${CMAKE_INSTALL_FULL_DOCDIR} ${CMAKE_INSTALL_FULL_INCLUDEDIR})
file(READ README.md readme)
string(REPLACE "](runtime/notifyhub.h)" "](${from_doc_to_include}/notifyhub.h)" readme "${readme}")
file(WRITE ${PROJECT_BINARY_DIR}/generated/README.md "${readme}")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS README.md)
install(FILES ${PROJECT_BINARY_DIR}/generated/README.md CHANGELOG.md LICENSE TYPE DOC)
install(DIRECTORY docs TYPE DOC FILES_MATCHING PATTERN "*.md" PATTERN "*.svg")
install(DIRECTORY scripts/examples DESTINATION ${CMAKE_INSTALL_DOCDIR}/scripts)
install(FILES scripts/rules.d.lua DESTINATION ${CMAKE_INSTALL_DOCDIR}/scripts)
install(FILES scripts/rules.d.lua DESTINATION ${CMAKE_INSTALL_DATADIR}/notifyhub/lua)
install(FILES bindings/lua/notifyhub.d.lua DESTINATION ${CMAKE_INSTALL_DOCDIR}/bindings/lua)

# The command finds the library wherever the prefix is moved to.
file(RELATIVE_PATH from_bin_to_lib ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR})
set_target_properties(notifyhub_cli PROPERTIES INSTALL_RPATH "$ORIGIN/${from_bin_to_lib}")

# -------------------------------------------------------------- CMake package

# Two sets of targets: a program that links the shared library needs none of what the static one does.
set(exports NotifyHubTargets NotifyHubStaticTargets)
foreach(export IN LISTS exports)
  install(EXPORT ${export} NAMESPACE NotifyHub:: DESTINATION ${package_dir})
endforeach()

# What the static library needs, from the library itself: the pkg-config modules by their prefix in
# CMakeLists.txt for CMake, and linker flags for pkg-config.
get_target_property(links notifyhub_static LINK_LIBRARIES)
set(NH_STATIC_MODULES "")
set(NH_STATIC_FLAGS "")
foreach(link IN LISTS links)
  string(REGEX REPLACE "^\\$<LINK_ONLY:(.*)>$" "\\1" link "${link}")
  if(link MATCHES "^PkgConfig::(.*)$")
    set(prefix ${CMAKE_MATCH_1})
    string(APPEND NH_STATIC_MODULES
           "  pkg_check_modules(${prefix} REQUIRED QUIET IMPORTED_TARGET ${${prefix}_MODULE_NAME})\n")
    list(APPEND NH_STATIC_FLAGS ${${prefix}_LDFLAGS})
  elseif(link STREQUAL "Threads::Threads")
    list(APPEND NH_STATIC_FLAGS -pthread)
  elseif(TARGET ${link})
    continue() # object libraries of this project are inside the archive
  elseif(link MATCHES "^-")
    list(APPEND NH_STATIC_FLAGS ${link})
  else()
    list(APPEND NH_STATIC_FLAGS -l${link})
  endif()
endforeach()
foreach(directory IN LISTS CMAKE_C_IMPLICIT_LINK_DIRECTORIES)
  list(REMOVE_ITEM NH_STATIC_FLAGS -L${directory})
endforeach()
list(REMOVE_DUPLICATES NH_STATIC_FLAGS)
list(JOIN NH_STATIC_FLAGS " " NH_STATIC_FLAGS)

configure_package_config_file(cmake/NotifyHubConfig.cmake.in generated/NotifyHubConfig.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(generated/NotifyHubConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/generated/NotifyHubConfig.cmake
              ${PROJECT_BINARY_DIR}/generated/NotifyHubConfigVersion.cmake
        DESTINATION ${package_dir})

# ----------------------------------------------------------------- pkg-config

file(RELATIVE_PATH NH_PC_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" NH_PC_PREFIX ${NH_PC_PREFIX})
configure_file(cmake/notifyhub.pc.in generated/notifyhub.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/generated/notifyhub.pc
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
