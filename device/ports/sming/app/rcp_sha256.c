#include "../../../rcp_sha256.c"
