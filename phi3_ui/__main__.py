from phi3_ui.cli import main

main()
