# embed.cmake - files of a web page as one C file of byte arrays.
#
#   cmake -DOUT=page_files.c -DFROM=gateway/web -P embed.cmake
#
# index.html is "/", every other file "/web/NAME".  The ETag is the start of the file's SHA-256.
file(GLOB names RELATIVE ${FROM} ${FROM}/*.html ${FROM}/*.css ${FROM}/*.js ${FROM}/*.svg)
list(SORT names)
set(type_html "text/html; charset=utf-8")
set(type_css "text/css; charset=utf-8")
set(type_js "text/javascript; charset=utf-8")
set(type_svg "image/svg+xml")

set(arrays "")
set(rows "")
set(n 0)
foreach(name ${names})
  file(READ ${FROM}/${name} hex HEX)
  file(SHA256 ${FROM}/${name} hash)
  string(SUBSTRING ${hash} 0 24 hash)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(REGEX REPLACE "^.*\\." "" ext ${name})
  if(name STREQUAL "index.html")
    set(path "/")
  else()
    set(path "/web/${name}")
  endif()
  string(APPEND arrays "static const unsigned char file_${n}[] = { /* ${name} */\n${bytes}\n};\n")
  string(APPEND rows "    { \"${path}\", \"${type_${ext}}\", \"\\\"${hash}\\\"\", file_${n}, sizeof file_${n} },\n")
  math(EXPR n "${n} + 1")
endforeach()
file(WRITE ${OUT} "/* made by cmake/embed.cmake */\n#include \"gateway/page.h\"\n\n${arrays}
const struct page_file page_files[] = {\n${rows}};\nconst unsigned page_n_files = ${n};\n")
