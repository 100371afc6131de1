"""What an answer is, for each problem: its operating point and its verdict. numpy and OpenCV alone, for every device."""
