/* An image that hangs before its receiver runs. */
int __wrap_main(void);

int __wrap_main(void)
{
    for (;;)
        ;
}
