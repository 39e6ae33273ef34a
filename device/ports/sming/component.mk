# A Sming application for the ESP8266: `make`, with SMING_HOME set. app/ includes the receiver from ../..
COMPONENT_SOC := esp8266
HWCONFIG := rcp

RBOOT_ENABLED := 1
# Without it rBoot has no temporary ROM, and a trial would be for ever.
RBOOT_RTC_ENABLED := 1

VERSION ?= 1.0.0
APP_CFLAGS += -DVERSION="\"$(VERSION)\""
