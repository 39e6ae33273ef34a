/* What the images of hosts/sming.cpp call their version. */
#pragma once
const char *host_version();
