# Makes C of a file's bytes: const unsigned char NAME_text[], const size_t NAME_length.
#   cmake -DINPUT=FILE -DOUTPUT=FILE.c -DNAME=NAME -P embed.cmake
file(READ ${INPUT} bytes HEX)
string(LENGTH "${bytes}" length)
math(EXPR length "${length} / 2")
string(REGEX REPLACE "(................................)" "\\1\n" bytes "${bytes}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
file(WRITE ${OUTPUT} "#include \"coordinator/${NAME}.h\"

const size_t ${NAME}_length = ${length};
const unsigned char ${NAME}_text[] = {
${bytes}};
")
