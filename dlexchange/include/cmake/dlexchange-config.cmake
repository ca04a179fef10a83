# find_package(dlexchange CONFIG): the target dlexchange::dlexchange, headers only.
# Its folder is that of `python -c "import dlexchange; print(dlexchange.get_include())"`,
# plus /cmake; pass it as dlexchange_DIR.
if(NOT TARGET dlexchange::dlexchange)
  add_library(dlexchange::dlexchange INTERFACE IMPORTED)
  get_filename_component(DLEXCHANGE_INCLUDE_DIR "${CMAKE_CURRENT_LIST_DIR}" DIRECTORY)
  set_target_properties(dlexchange::dlexchange PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${DLEXCHANGE_INCLUDE_DIR}"
    INTERFACE_LINK_LIBRARIES "${CMAKE_DL_LIBS}")
endif()
set(dlexchange_FOUND TRUE)
