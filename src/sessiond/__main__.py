from sessiond.cli import main

if __name__ == "__main__":
    main()
