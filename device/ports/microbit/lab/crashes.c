/* An image that faults before its receiver runs. */
int __wrap_main(void);

int __wrap_main(void)
{
    __asm volatile("udf #0");
    return 0;
}
