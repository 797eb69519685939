# Compiler settings that every target of ours takes through the interface library pbkfs_options, and
# pbkfs_room(): one library target for each room of ARCHITECTURE.md.

add_library(pbkfs_options INTERFACE)
target_include_directories(pbkfs_options INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_definitions(pbkfs_options INTERFACE _GNU_SOURCE PBKFS_VERSION="${PROJECT_VERSION}")
target_compile_options(pbkfs_options INTERFACE
  -Wall -Wextra -Werror -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wundef -fno-omit-frame-pointer)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  target_compile_options(pbkfs_options INTERFACE -Wthread-safety -Werror=thread-safety)
endif()

if(PBKFS_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all)
  add_link_options(-fsanitize=address,undefined)
elseif(PBKFS_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread)
  add_link_options(-fsanitize=thread)
elseif(NOT PBKFS_SANITIZE STREQUAL "")
  message(FATAL_ERROR "PBKFS_SANITIZE is '${PBKFS_SANITIZE}'; use address, thread, or nothing")
endif()
if(PBKFS_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "PBKFS_FUZZ needs clang: use the preset 'fuzz'")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all)
  add_link_options(-fsanitize=address,undefined)
endif()

# pbkfs_room(NAME SOURCES... DEPS...): the library of one room.
function(pbkfs_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ROOM_SOURCES})
  target_link_libraries(${name} PUBLIC pbkfs_options ${ROOM_DEPS})
endfunction()
