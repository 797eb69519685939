# PBKFS_STATIC: the programs carry every library of which Debian has an archive. What is left beside libc is looked for
# in lib/pbkfs beside bin/, where cmake/install.cmake puts it. The objects are those of the ordinary build.

# A shared library's archive; the library itself where there is none.
function(pbkfs_archive_of library result)
  string(REGEX REPLACE "\\.so[.0-9]*$" ".a" archive "${library}")
  if(NOT EXISTS "${archive}")
    set(archive "${library}")
  endif()
  set(${result} "${archive}" PARENT_SCOPE)
endfunction()

# Where imported targets name shared libraries: pkg-config's as something to link with, packages' as their location.
set(archives)
get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
foreach(target ${targets})
  foreach(property INTERFACE_LINK_LIBRARIES IMPORTED_LOCATION IMPORTED_LOCATION_NONE IMPORTED_LOCATION_RELEASE)
    get_target_property(libraries ${target} ${property})
    if(NOT libraries MATCHES "/[^;]*\\.so")
      continue()
    endif()
    set(replaced)
    foreach(library ${libraries})
      pbkfs_archive_of("${library}" archive)
      list(APPEND replaced "${archive}")
      if(archive MATCHES "\\.a$")
        list(APPEND archives "${archive}")
      endif()
    endforeach()
    set_property(TARGET ${target} PROPERTY ${property} "${replaced}")
  endforeach()
endforeach()
# The one that gRPC's package names only as -lre2.
find_library(PBKFS_RE2_ARCHIVE NAMES libre2.a REQUIRED)
set_property(TARGET re2::re2 PROPERTY INTERFACE_LINK_LIBRARIES ${PBKFS_RE2_ARCHIVE})
list(APPEND archives ${PBKFS_RE2_ARCHIVE})
list(REMOVE_DUPLICATES archives)
# prometheus-cpp finds these for a part of it that is not used.
list(FILTER archives EXCLUDE REGEX "/lib(curl|rt)\\.a$")
# deploy/release.sh collects the licences of these.
list(JOIN archives "\n" lines)
file(WRITE ${PROJECT_BINARY_DIR}/archives.txt "${lines}\n")

# The archives need one another in no order that the packages tell.
string(REPLACE ";" "," group "${archives}")
target_link_libraries(pbkfs_options INTERFACE "$<LINK_GROUP:RESCAN,${group}>" ${CMAKE_DL_LIBS})

# DT_RPATH and not DT_RUNPATH: the libraries in lib/pbkfs find each other by it too.
set(CMAKE_INSTALL_RPATH "$ORIGIN/../lib/pbkfs")
# -s: stripped before the build id is computed, which then does not depend on where it was built.
add_link_options(-Wl,--disable-new-dtags -s)
