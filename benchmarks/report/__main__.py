"""Write the pages of the report from the files of results: python -m benchmarks.report"""

from benchmarks.report.page import write

if __name__ == "__main__":
    write()
