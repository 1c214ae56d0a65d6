# ssm_emulation_tests: the engine of the emulated backend, with kernels that commit each fault it must find. The engine
# is compiled in; the kernels are in emulation_test.cu.
if(TARGET ssm_emulation)
  set_source_files_properties(emulation_test.cu PROPERTIES LANGUAGE CXX)
  add_executable(ssm_emulation_tests emulation_test.cu $<TARGET_OBJECTS:ssm_emulation>)
  set_target_properties(ssm_emulation_tests PROPERTIES CXX_STANDARD 17 ENABLE_EXPORTS ON)
  target_link_libraries(ssm_emulation_tests PRIVATE ssm_emulation GTest::gtest GTest::gtest_main Threads::Threads)
  add_test(NAME native.emulation COMMAND ssm_emulation_tests --gtest_brief=1)
  set_tests_properties(native.emulation PROPERTIES TIMEOUT 300)
endif()
