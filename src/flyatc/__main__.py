from flyatc.cli.main import main

main()
