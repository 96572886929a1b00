"""Where does a number stand among others?"""
