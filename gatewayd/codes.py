"""The one table of codes: what each refusal and each failure means to the rest of the program.

A code is text that outlives versions: it is stored, published and compared by scripts (docs/codes.md, whose
sections are those of this table). Whatever is decided by a code is decided here, by its row; nothing else
keeps sets of codes or compares them with text. A code that is not in the table, from a later version or from
a device with numbers of its own, has the meaning `UNKNOWN`.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Self


class Fault(Enum):
    """Whose fault it is; the value is the section of docs/codes.md."""

    NOBODY = "What the gateway decided about a device"
    PUBLISHER = "Firmware that is refused"
    DEVICE = "Devices and jobs"
    LINE = "The line"
    MACHINE = "This machine"
    CONFIGURATION = "Configuration"
    BROKER = "The broker"
    REQUEST = "What gatewayctl is told"
    COMMAND = "Commands and virtual devices"


class Contact(Enum):
    """What the code says of the link to the device."""

    MADE = auto()  # the device was reached, or the code is not about reaching one
    NONE = auto()  # nothing was heard of the device: it says nothing about device or image
    STRANGER = auto()  # another device answered


class AttemptEffect(Enum):
    """What it does to the attempt that it ends: of a job, or to connect to the broker."""

    COUNTS = auto()  # uses up one attempt; tried again after a back-off
    WAITS = auto()  # passes by itself, or when a person acts: uses nothing up
    FINAL = auto()  # the same again cannot end otherwise: a job fails, the broker is left alone for longest
    MOOT = auto()  # there is nothing to do after all: the job is cancelled


class Again(Enum):
    """When a job that failed with it may be tried once more with the same image."""

    AFTER_CONTACT = auto()  # once the device is heard: the failure said nothing about the image
    AFTER_RESTART = auto()  # once the device has restarted
    BY_PERSON = auto()  # when a person orders it: another restart is no reason to wear the device's flash
    NEVER = auto()  # the image was on the device and did not hold: not even a person may


@dataclass(frozen=True, slots=True)
class Meaning:
    """A row without its code. What is left out is what most codes mean."""

    fault: Fault
    contact: Contact = Contact.MADE
    attempt: AttemptEffect = AttemptEffect.COUNTS
    again: Again = Again.AFTER_RESTART
    is_silence: bool = False  # the link works and the device does not answer; it may yet
    is_outcome: bool = False  # it says what became of an image that was activated
    is_disk: bool = False  # the disk itself: a start waits for it, too
    is_well: bool = False  # nothing is wrong and nobody has to be told
    suggests_older_mqtt: bool = False  # what a broker without MQTT 5 does when it is asked for that

    @property
    def is_about_link(self) -> bool:
        """Whether it says how the device's link is doing."""
        return self.contact is not Contact.MADE

    @property
    def is_out_of_reach(self) -> bool:
        """Whether nothing reaches the device, and an update waits for as long as that lasts."""
        return self.contact is Contact.NONE and self.attempt is AttemptEffect.WAITS


_DECIDED = Meaning(Fault.NOBODY)
_DUE = Meaning(Fault.NOBODY, is_well=True)
_CURRENT = Meaning(Fault.NOBODY, is_well=True, is_outcome=True)
# Now that the device was asked it turns out to run something that this does not replace.
_MOOT = Meaning(Fault.NOBODY, attempt=AttemptEffect.MOOT)

_FIRMWARE = Meaning(Fault.PUBLISHER, attempt=AttemptEffect.FINAL)

_DEVICE = Meaning(Fault.DEVICE)
_DID_NOT_HOLD = Meaning(Fault.DEVICE, attempt=AttemptEffect.FINAL, again=Again.NEVER, is_outcome=True)
_NOT_STARTED = Meaning(Fault.DEVICE, attempt=AttemptEffect.FINAL, again=Again.BY_PERSON, is_outcome=True)
_INCAPABLE = Meaning(Fault.DEVICE, attempt=AttemptEffect.FINAL)
_MISTAKEN = Meaning(
    Fault.DEVICE, contact=Contact.STRANGER, attempt=AttemptEffect.FINAL, again=Again.AFTER_CONTACT
)
_STRANGER = Meaning(Fault.DEVICE, contact=Contact.STRANGER, again=Again.AFTER_CONTACT)
# The device answers, and what it does now ends by itself.
_TRIAL = Meaning(Fault.DEVICE, attempt=AttemptEffect.WAITS)
_UNSTEADY = Meaning(Fault.DEVICE, again=Again.BY_PERSON)

_LINE = Meaning(Fault.LINE)
_SILENT = Meaning(Fault.LINE, contact=Contact.NONE, again=Again.AFTER_CONTACT, is_silence=True)
# The line is not there or not ours: nothing was tried, so nothing is used up.
_AWAY = Meaning(Fault.LINE, contact=Contact.NONE, attempt=AttemptEffect.WAITS, again=Again.AFTER_CONTACT)
# The radio reaches something that does not let us in, or is not what we look for.
_NO_ENTRY = Meaning(Fault.LINE, contact=Contact.NONE, again=Again.AFTER_CONTACT)
_VANISHING = Meaning(Fault.LINE, contact=Contact.NONE, again=Again.BY_PERSON)

_MACHINE = Meaning(Fault.MACHINE)
_OUT_OF_FILES = Meaning(
    Fault.MACHINE, contact=Contact.NONE, attempt=AttemptEffect.WAITS, again=Again.AFTER_CONTACT
)
_DISK = Meaning(Fault.MACHINE, attempt=AttemptEffect.WAITS, is_disk=True)
_STORAGE = Meaning(Fault.MACHINE, attempt=AttemptEffect.WAITS)
_LOST = Meaning(Fault.MACHINE, attempt=AttemptEffect.FINAL)

_CONFIGURATION = Meaning(Fault.CONFIGURATION)
_KEYLESS = Meaning(Fault.CONFIGURATION, attempt=AttemptEffect.WAITS)

_BROKER = Meaning(Fault.BROKER)
_TURNED_AWAY = Meaning(Fault.BROKER, attempt=AttemptEffect.FINAL)
_OTHER_MQTT = Meaning(Fault.BROKER, suggests_older_mqtt=True)

_REQUEST = Meaning(Fault.REQUEST)
_COMMAND = Meaning(Fault.COMMAND)

UNKNOWN = Meaning(Fault.DEVICE)


class Code(StrEnum):
    """Every code there is. A member is its text, and has its row in `meaning`."""

    meaning: Meaning

    def __new__(cls, text: str, meaning: Meaning) -> Self:
        """Make a member of its text and its row."""
        member = str.__new__(cls, text)
        member._value_ = text
        member.meaning = meaning
        return member

    # What the gateway decided about a device
    UPDATE = "update", _DUE
    UP_TO_DATE = "up_to_date", _CURRENT
    NO_RELEASE = "no_release", _DECIDED
    VERIFYING = "verifying", _DECIDED
    NOT_NEWER = "not_newer", _MOOT
    INCOMPATIBLE = "incompatible", _MOOT
    SUPERSEDED = "superseded", _DECIDED
    WITHDRAWN = "withdrawn", _DECIDED
    NOT_AT_BROKER = "not_at_broker", _DECIDED
    CANCELLED = "cancelled", _DECIDED
    NOT_CONFIGURED = "not_configured", _DECIDED
    INTERRUPTED = "interrupted", _DECIDED

    # Firmware that is refused
    BAD_SIGNATURE = "bad_signature", _FIRMWARE
    BAD_MD5 = "bad_md5", _FIRMWARE
    NO_VERIFY_KEY = "no_verify_key", _FIRMWARE
    UNSIGNED = "unsigned", _FIRMWARE
    DECRYPT_FAILED = "decrypt_failed", _FIRMWARE
    NO_DECRYPT_KEY = "no_decrypt_key", _FIRMWARE
    NOT_ENCRYPTED = "not_encrypted", _FIRMWARE
    ROLLBACK = "rollback", _FIRMWARE
    NO_ROM_FOR_SLOT = "no_rom_for_slot", _FIRMWARE
    TOO_LARGE = "too_large", _FIRMWARE
    BAD_MAGIC = "bad_magic", _FIRMWARE
    BAD_TAG = "bad_tag", _FIRMWARE
    NO_FINAL = "no_final", _FIRMWARE
    SECOND_FINAL = "second_final", _FIRMWARE
    TRUNCATED = "truncated", _FIRMWARE
    TRAILING_BYTES = "trailing_bytes", _FIRMWARE
    RESERVED_NOT_ZERO = "reserved_not_zero", _FIRMWARE
    BAD_TIMESTAMP = "bad_timestamp", _FIRMWARE
    NO_ROMS = "no_roms", _FIRMWARE
    TOO_MANY_ROMS = "too_many_roms", _FIRMWARE
    EMPTY_ROM = "empty_rom", _FIRMWARE
    ROM_TOO_LARGE = "rom_too_large", _FIRMWARE
    BAD_ADDRESS = "bad_address", _FIRMWARE
    BAD_VERSION = "bad_version", _FIRMWARE
    PATCH_OVERFLOW = "patch_overflow", _FIRMWARE
    PATCH_IMPLAUSIBLE = "patch_implausible", _FIRMWARE
    TEXT_PAYLOAD = "text_payload", _FIRMWARE
    IMAGE_TOO_SMALL = "image_too_small", _FIRMWARE
    MAGIC_DIFFERS = "magic_differs", _FIRMWARE
    OTHER_ENCODING = "other_encoding", _FIRMWARE
    KEY_FILE = "key_file", _FIRMWARE
    NESTED_CONTAINER = "nested_container", _FIRMWARE
    BAD_IMAGE_HEADER = "bad_image_header", _FIRMWARE
    BAD_IMAGE_TLV = "bad_image_tlv", _FIRMWARE
    IMAGE_TRUNCATED = "image_truncated", _FIRMWARE
    IMAGE_PADDED = "image_padded", _FIRMWARE
    IMAGE_HASH_MISSING = "image_hash_missing", _FIRMWARE
    IMAGE_HASH_MISMATCH = "image_hash_mismatch", _FIRMWARE
    IMAGE_VERSION_DIFFERS = "image_version_differs", _FIRMWARE
    PATCH_TRUNCATED = "patch_truncated", _FIRMWARE
    EMPTY_FIRMWARE = "empty_firmware", _FIRMWARE
    BAD_FIRMWARE = "bad_firmware", _FIRMWARE
    QOS0 = "qos0", _FIRMWARE
    ALL_WOULD_REFUSE = "all_would_refuse", _FIRMWARE
    AMBIGUOUS_TOPIC = "ambiguous_topic", _FIRMWARE
    NOT_OURS = "not_ours", _FIRMWARE

    # Devices and jobs
    REVERTED = "reverted", _DID_NOT_HOLD
    VERSION_MISMATCH = "version_mismatch", _DID_NOT_HOLD
    VERSION_DIFFERS = "version_differs", _DEVICE
    IMAGE_REJECTED = "image_rejected", _NOT_STARTED
    ALREADY_TRIED = "already_tried", _DID_NOT_HOLD
    ACTIVATE_IGNORED = "activate_ignored", _DEVICE
    NOT_CONFIRMED = "not_confirmed", _DEVICE
    NOT_RUNNING = "not_running", _DEVICE
    ON_TRIAL = "on_trial", _TRIAL
    TRIAL_OVERDUE = "trial_overdue", _TRIAL
    NO_TRIAL_BOOT = "no_trial_boot", _INCAPABLE
    NOT_NOW = "not_now", _DEVICE
    WRONG_APP = "wrong_app", _MISTAKEN
    WRONG_HARDWARE = "wrong_hardware", _MISTAKEN
    WRONG_DEVICE = "wrong_device", _MISTAKEN
    SAME_BOARD = "same_board", _DEVICE
    DEVICE_CHANGED = "device_changed", _STRANGER
    STALLED = "stalled", _DEVICE
    PREFIX_MISMATCH = "prefix_mismatch", _DEVICE
    DIGEST_MISMATCH = "digest_mismatch", _DEVICE
    FLASH_READ = "flash_read", _DEVICE
    FLASH_FAILED = "flash_failed", _INCAPABLE
    BAD_OFFSET = "bad_offset", _DEVICE
    BACKWARDS = "backwards", _DEVICE
    MALFORMED = "malformed", _INCAPABLE
    UNKNOWN_TYPE = "unknown_type", _INCAPABLE
    UNKNOWN_CRITICAL_TAG = "unknown_critical_tag", _INCAPABLE
    UNKNOWN_ENCODING = "unknown_encoding", _INCAPABLE
    PROTOCOL_VERSION = "protocol_version", _INCAPABLE
    REFUSED = "refused", _INCAPABLE
    BAUD = "baud", _DEVICE
    NO_SESSION = "no_session", _DEVICE
    KEEPS_RESTARTING = "keeps_restarting", _UNSTEADY
    BAD_STATE = "bad_state", _DEVICE
    OTHER_BOOT = "other_boot", _DEVICE
    RESTARTING = "restarting", _DEVICE
    NOT_STAGED = "not_staged", _DEVICE
    IN_RECOVERY = "in_recovery", _DEVICE
    IMAGE_REFUSED = "image_refused", _INCAPABLE
    NO_FREE_SLOT = "no_free_slot", _DEVICE
    NO_MEMORY = "no_memory", _DEVICE
    DEVICE_BUSY = "device_busy", _DEVICE
    UNSUPPORTED = "unsupported", _INCAPABLE
    ACCESS_DENIED = "access_denied", _INCAPABLE
    DOWNGRADE_REFUSED = "downgrade_refused", _INCAPABLE
    DEVICE_ERROR = "device_error", _DEVICE

    # The line
    NO_ANSWER = "no_answer", _SILENT
    ONLY_TEXT = "only_text", _SILENT
    GARBLED = "garbled", _SILENT
    INCOMPLETE = "incomplete", _SILENT
    LATE = "late", _SILENT
    ECHO = "echo", _SILENT
    PORT_CONTESTED = "port_contested", _SILENT
    WAKE_FAILED = "wake_failed", _SILENT
    LINK_MISSING = "link_missing", _AWAY
    LINK_LOST = "link_lost", _AWAY
    KEEPS_VANISHING = "keeps_vanishing", _VANISHING
    LINK_BUSY = "link_busy", _AWAY
    PORT_SHARED = "port_shared", _AWAY
    LINK_DENIED = "link_denied", _AWAY
    BUMBLE_MISSING = "bumble_missing", _LINE
    CONTROLLER_UNUSABLE = "controller_unusable", _LINE
    NOT_HEARD = "not_heard", _AWAY
    CONNECT_FAILED = "connect_failed", _AWAY
    PAIRING_FAILED = "pairing_failed", _NO_ENTRY
    BOND_LOST = "bond_lost", _SILENT
    NO_SERVICE = "no_service", _NO_ENTRY
    ADAPTER_MISSING = "adapter_missing", _AWAY
    ADAPTER_BLOCKED = "adapter_blocked", _AWAY
    ADAPTER_BUSY = "adapter_busy", _AWAY
    ADAPTER_SILENT = "adapter_silent", _AWAY
    ADAPTER_FAILED = "adapter_failed", _AWAY
    DEVICE_FORGOTTEN = "device_forgotten", _AWAY
    NO_RESOURCES = "no_resources", _NO_ENTRY
    CHARACTERISTIC_HELD = "characteristic_held", _AWAY
    BLUETOOTH_MISSING = "bluetooth_missing", _AWAY
    LINE_EATS_BYTES = "line_eats_bytes", _LINE
    LINK_ERROR = "link_error", _AWAY
    MAY_RESET = "may_reset", _LINE

    # This machine
    TOO_MANY_FILES = "too_many_files", _OUT_OF_FILES
    STORAGE_FAILED = "storage_failed", _STORAGE
    DISK_READ_ONLY = "disk_read_only", _DISK
    DISK_FAILING = "disk_failing", _DISK
    SPOOL_DAMAGED = "spool_damaged", _LOST
    STATE_DIR_LOCKED = "state_dir_locked", _MACHINE
    NEWER_DATABASE = "newer_database", _MACHINE
    STATE_DIR_UNUSABLE = "state_dir_unusable", _MACHINE
    STATE_DIR_VOLATILE = "state_dir_volatile", _MACHINE
    DISK_FULL = "disk_full", _DISK
    DATABASE_DAMAGED = "database_damaged", _STORAGE
    STATE_DAMAGED = "state_damaged", _MACHINE
    STORED_UNREADABLE = "stored_unreadable", _MACHINE
    FILE_UNREADABLE = "file_unreadable", _MACHINE
    FILE_EXPOSED = "file_exposed", _MACHINE
    CLOCK_WRONG = "clock_wrong", _MACHINE
    CLOCK_NOT_SYNCHRONISED = "clock_not_synchronised", _MACHINE
    DAEMON_NOT_RUNNING = "daemon_not_running", _MACHINE
    DAEMON_UNKNOWN = "daemon_unknown", _MACHINE
    OUT_OF_MEMORY = "out_of_memory", _MACHINE
    LOOP_LATE = "loop_late", _MACHINE
    NO_WATCHDOG = "no_watchdog", _MACHINE
    HANGS = "hangs", _MACHINE
    HOST_ERROR = "host_error", _MACHINE
    INTERNAL = "internal", _MACHINE

    # Configuration
    BAD_CONFIGURATION = "bad_configuration", _CONFIGURATION
    KEYS_UNUSABLE = "keys_unusable", _KEYLESS
    NOT_IN_FORCE = "not_in_force", _CONFIGURATION
    UNWISE = "unwise", _CONFIGURATION
    BAD_KEY = "bad_key", _CONFIGURATION
    BAD_APP_ID = "bad_app_id", _CONFIGURATION
    BAD_TOPIC_TEMPLATE = "bad_topic_template", _CONFIGURATION

    # The broker
    BROKER_UNREACHABLE = "broker_unreachable", _BROKER
    NO_CONNACK = "no_connack", _OTHER_MQTT
    BROKER_REFUSED = "broker_refused", _TURNED_AWAY
    NO_TLS_THERE = "no_tls_there", _BROKER
    UNKNOWN_CA = "unknown_ca", _TURNED_AWAY
    WRONG_NAME = "wrong_name", _TURNED_AWAY
    CERTIFICATE_EXPIRED = "certificate_expired", _BROKER
    CERTIFICATE_NOT_YET_VALID = "certificate_not_yet_valid", _BROKER
    BAD_CERTIFICATE = "bad_certificate", _BROKER
    WRONG_PIN = "wrong_pin", _TURNED_AWAY
    CLIENT_CERTIFICATE_REFUSED = "client_certificate_refused", _TURNED_AWAY
    OLD_TLS = "old_tls", _BROKER
    TLS_FILES = "tls_files", _TURNED_AWAY
    TLS_FAILED = "tls_failed", _BROKER
    LOGIN_UNUSABLE = "login_unusable", _TURNED_AWAY
    BAD_CREDENTIALS = "bad_credentials", _TURNED_AWAY
    PROTOCOL_REFUSED = "protocol_refused", _OTHER_MQTT
    SUBSCRIPTION_REFUSED = "subscription_refused", _BROKER
    PUBLISH_REFUSED = "publish_refused", _BROKER
    NO_REPORTS = "no_reports", _BROKER
    BAD_REPORT = "bad_report", _BROKER
    FLEET_TOO_LARGE = "fleet_too_large", _BROKER
    GATEWAY_ONLINE = "gateway_online", _BROKER
    BROKER_SILENT = "broker_silent", _BROKER
    MARKER_WITHHELD = "marker_withheld", _BROKER
    NO_TLS = "no_tls", _BROKER
    EXPIRES_SOON = "expires_soon", _BROKER
    CLOCK_DOUBTFUL = "clock_doubtful", _BROKER
    EXCEEDS_BROKER_LIMIT = "exceeds_broker_limit", _BROKER
    SHARED_CLIENT_ID = "shared_client_id", _BROKER
    WEBSOCKET_PORT = "websocket_port", _BROKER
    RETAIN_UNAVAILABLE = "retain_unavailable", _TURNED_AWAY
    BROKER_RESTARTS = "broker_restarts", _BROKER
    QOS0_FLOOD = "qos0_flood", _BROKER
    NO_PUBACK = "no_puback", _BROKER
    SHORT_SESSION = "short_session", _BROKER
    TAKEN_OVER = "taken_over", _TURNED_AWAY
    CONNECTION_LOST = "connection_lost", _BROKER
    NOT_CONNECTED = "not_connected", _BROKER

    # What gatewayctl is told
    DAEMON_UNREACHABLE = "daemon_unreachable", _REQUEST
    NO_SUCH_DEVICE = "no_such_device", _REQUEST
    NO_SUCH_JOB = "no_such_job", _REQUEST
    NOT_THE_LAST_JOB = "not_the_last_job", _REQUEST
    NO_ACTIVE_JOB = "no_active_job", _REQUEST
    NOT_OFFERED = "not_offered", _REQUEST
    OFFERED = "offered", _REQUEST
    NOT_ON_OFFER = "not_on_offer", _REQUEST
    JOB_UNDER_WAY = "job_under_way", _REQUEST
    TOO_LATE = "too_late", _REQUEST
    PAUSED = "paused", _REQUEST
    RECONFIGURED = "reconfigured", _REQUEST
    RESTART_NEEDED = "restart_needed", _REQUEST
    NO_FILE = "no_file", _REQUEST
    BAD_REQUEST = "bad_request", _REQUEST
    RETAINED_COMMAND = "retained_command", _REQUEST
    BAD_COMMAND = "bad_command", _REQUEST
    BUSY = "busy", _REQUEST
    CONTROL_SOCKET_IN_USE = "control_socket_in_use", _REQUEST
    NO_CONTROL_SOCKET = "no_control_socket", _REQUEST
    WRONG_HOST = "wrong_host", _REQUEST
    WRONG_ORIGIN = "wrong_origin", _REQUEST
    ONLY_SHOWS = "only_shows", _REQUEST
    SIGN_IN = "sign_in", _REQUEST
    WRONG_PASSWORD = "wrong_password", _REQUEST
    TOO_MANY_TRIES = "too_many_tries", _REQUEST
    TOO_MANY_LISTENERS = "too_many_listeners", _REQUEST

    # Commands and virtual devices
    NO_CONTAINER = "no_container", _COMMAND
    NO_DIRECTORY = "no_directory", _COMMAND
    FILE_EXISTS = "file_exists", _COMMAND
    PORT_EXISTS = "port_exists", _COMMAND
    DEVICE_IN_USE = "device_in_use", _COMMAND
    BAD_DEVICE_STATE = "bad_device_state", _COMMAND
    NO_DEMO_BROKER = "no_demo_broker", _COMMAND
    DEMO_FAILED = "demo_failed", _COMMAND
    DEMO_STUCK = "demo_stuck", _COMMAND
    DEMO_WRONG_IMAGE = "demo_wrong_image", _COMMAND


_MEANINGS = {str(code): code.meaning for code in Code}


def meaning(code: str) -> Meaning:
    """Return the row of a code as it is stored, published or told by a device."""
    return _MEANINGS.get(code, UNKNOWN)
