# static.cmake - STATIC_LIBRARIES: the archives of the libraries that the build has found, in the
# places of the shared ones.  libcurl stays shared: its archive wants more libraries than it spares,
# and only `swarm-store import` of a URL uses it.  So does what libmicrohttpd's TLS, unused, wants.

# archive(TARGET NAME LIBRARIES...): link NAME.a and LIBRARIES wherever TARGET is linked.
function(archive target name)
  find_library(archive_${name} ${name}.a REQUIRED)
  set_target_properties(PkgConfig::${target} PROPERTIES
    INTERFACE_LINK_LIBRARIES "${archive_${name}};${ARGN}")
endfunction()
archive(SODIUM libsodium Threads::Threads)
archive(UV libuv_a Threads::Threads dl)
archive(PCRE2 libpcre2-8)
archive(UTF8PROC libutf8proc)
archive(YAJL libyajl_s)
archive(MICROHTTPD libmicrohttpd gnutls Threads::Threads)
foreach(name lmdb natpmp miniupnpc)
  string(TOUPPER ${name}_LIBRARY variable)
  find_library(archive_${name} lib${name}.a REQUIRED)
  set(${variable} ${archive_${name}})
endforeach()
find_library(archive_msgpack NAMES libmsgpack-c.a libmsgpackc.a REQUIRED)
set(MSGPACK_LIBRARY ${archive_msgpack})
add_link_options(-static-libgcc)
