# Build for 64-bit Arm on another machine, with Debian's gcc-aarch64-linux-gnu, and run the tests
# under qemu-user-static:
#
#   cmake -B build-aarch64 --toolchain cmake/aarch64.cmake -DARITHMETIC_ONLY=ON
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64-static)
# Nothing of the foreign system has to be there at run time.
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
