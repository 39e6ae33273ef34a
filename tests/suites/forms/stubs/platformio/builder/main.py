from SCons.Script import Default, DefaultEnvironment

env = DefaultEnvironment()
chip = ["-mcpu=cortex-m4", "-mthumb", "-Os", "-Wall", "-Wextra", "-Werror"]
env.Replace(
    CC="arm-none-eabi-gcc",
    CXX="arm-none-eabi-g++",
    AR="arm-none-eabi-ar",
    RANLIB="arm-none-eabi-ranlib",
    PROGSUFFIX=".elf",
)
env.Append(
    CCFLAGS=chip, LINKFLAGS=["-mcpu=cortex-m4", "-mthumb", "--specs=nosys.specs", "--specs=nano.specs"]
)
Default(env.Alias("buildprog", env.BuildProgram()))
