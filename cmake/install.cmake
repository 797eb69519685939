# cmake --install: programs, the systemd unit with the path of the program, the example configuration, documents.
include(GNUInstallDirs)
install(TARGETS pbkfsd pbkfs RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

file(READ ${PROJECT_SOURCE_DIR}/deploy/systemd/pbkfsd.service unit)
string(REPLACE "/usr/bin/pbkfsd" "${CMAKE_INSTALL_FULL_BINDIR}/pbkfsd" unit "${unit}")
file(WRITE ${PROJECT_BINARY_DIR}/pbkfsd.service "${unit}")
install(FILES ${PROJECT_BINARY_DIR}/pbkfsd.service DESTINATION lib/systemd/system)
install(FILES ${PROJECT_SOURCE_DIR}/deploy/pbkfsd.conf DESTINATION ${CMAKE_INSTALL_SYSCONFDIR}/pbkfs)
install(FILES README.md CHANGELOG.md LICENSE service/ERRORS.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
